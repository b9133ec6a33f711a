"""ShortGPT: drops the layers that turn the hidden state least.

arXiv 2403.03853, equation 1: block influence is 1 minus the mean cosine between what enters and what leaves a layer, over all
tokens of the calibration text, in one pass of the parent. The number of layers is the one nearest to the size.
"""

import torch

import parent
from kept import Kept, Shape
from pruned import Pruned

WINDOWS = 64


def prune(model, ids, sizes):
    shape = Shape.of(model.config)
    influence = influences(model, ids)
    order = torch.argsort(influence).tolist()
    for size in sizes:
        dropped = order[: count_of(shape, size)]
        yield size, Pruned(without(shape, dropped), ids.numel(), {"dropped": sorted(dropped)})


def influences(model, ids):
    """Block influence of each layer."""
    hidden, found = parent.embedded(model, ids), []
    for layer in model.model.layers:
        out = parent.through(model, layer, hidden)
        found.append(1 - torch.nn.functional.cosine_similarity(hidden, out, dim=-1).double().mean())
        hidden = out
    return torch.stack(found)


def count_of(shape, size):
    """How many layers to drop: the number nearest to the size."""
    layer = shape.kv_heads * shape.group + shape.mlp * shape.channel + 2 * shape.hidden
    return round((1 - size) * shape.params / layer)


def without(shape, dropped):
    kept = Kept.all(shape)
    kept.groups[dropped] = False
    kept.channels[dropped] = False
    return kept
