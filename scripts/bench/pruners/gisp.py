"""GISP: first-order importances of whole structures, one ranking over all layers, in many small steps.

arXiv 2510.18030 and pruners/grad_sp_global.py of uncc-efficient-ai/GISP. A structure's importance is `absolute`, the sum of
|w dL/dw| over its weights, as the authors' code has it; or `signed`, |sum of w dL/dw|, the change of the loss to first order
without it. In whole KV groups the signs cancel far more than in channels, so that `signed` would drop attention first.

Blocks are brought to one scale by the sizes in that code: an attention unit is divided by its number of weights, a channel by
3 x MLP width. The first tenth of the layers and the last one are protected ("prune_skip").

Each step takes the same number of parameters, STEP of the parent, with gradients of the next windows of the text. The networks
are nested: one run gives all sizes. The authors take 112 steps and look at all 2,000 windows of 256 tokens in each. Fewer
steps with enough windows are the better half of that: sums of absolute values of few windows' gradients are mostly noise.
On grouped queries they mask single query heads; a file that others load can only lose whole KV groups, so those are ranked.
"""

import torch

import kept
import parent
from kept import Kept, Shape
from pruned import Pruned, infinite_outside

STEP = 0.02
WINDOWS_A_STEP = 64
WINDOWS = 512  # behind the last one it begins again
IMPORTANCE = "absolute"


def prune(model, ids, sizes, importance=IMPORTANCE, windows=WINDOWS_A_STEP):
    shape = Shape.of(model.config)
    chosen, seen = Kept.all(shape), 0
    prunable = range(int(0.1 * shape.layers), shape.layers - 1)
    settings = {"importance": importance, "step": STEP, "windows_a_step": windows, "protected": "first tenth and last layer"}
    with kept.zeroed(model, chosen):
        for step, size in steps(sizes):
            places = torch.arange(seen, seen + windows) % len(ids)
            seen += windows
            groups, channels = [infinite_outside(scores, prunable) for scores in importances(model, ids[places], shape, importance)]
            chosen = kept.drop_least(shape, chosen, groups, channels, int(step * shape.params))
            kept.zero(model, chosen)
            if size is not None:
                tokens = min(seen, len(ids)) * ids.shape[1]
                yield size, Pruned(chosen, tokens, settings)


def steps(sizes):
    """Sizes on the way, each STEP smaller than the one before, and which of them were asked for."""
    share = 1.0
    for size in sizes:
        while share - STEP > size + 1e-9:
            share -= STEP
            yield share, None
        share = size
        yield size, size


def importances(model, ids, shape, importance=IMPORTANCE):
    """Of the groups (layers, k) and the channels (layers, f), each on its block's scale."""
    parent.gradients(model, ids)
    groups, channels = zip(*(layer_importances(layer, shape, importance) for layer in model.model.layers))
    return torch.stack(groups) / shape.group, torch.stack(channels) / (3 * shape.mlp)


@torch.no_grad()
def layer_importances(layer, shape, importance):
    """Change of the loss to first order without each group (k,) and each channel (f,)."""
    reduce = (lambda product: product.sum(1)) if importance == "signed" else (lambda product: product.abs().sum(1))
    q, k, v, o, gate, up, down = [(part.weight * part.weight.grad).double() for part in parent.projections(layer)]
    group = lambda rows: reduce(rows.reshape(shape.kv_heads, -1))
    return (group(q) + group(k) + group(v) + group(o.T)).abs(), (reduce(gate) + reduce(up) + reduce(down.T)).abs()
