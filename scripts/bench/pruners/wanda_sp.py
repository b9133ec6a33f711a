"""Wanda-sp: uniform widths, scored layer by layer with the pruned layers before as input.

The structured form of Wanda (arXiv 2306.11695, equation 1) that FLAP compares with (arXiv 2312.11983; `prune_wanda_sp` in
lib/prune.py of CASIA-IVA-Lab/FLAP). The score of a column of o_proj or down_proj is the mean of |W| in it times the RMS of its
input; a structure's is the sum over its columns.

The authors round the share of heads down. With three KV groups a layer that would keep all of them at most sizes, so here
each number of groups is tried with the MLP width that fills the size, and the network that loses least on the first windows
is taken.
"""

import activations
import kept
import parent
from kept import Kept, Shape
from pruned import CHOICE_WINDOWS, Pruned, by_group

WINDOWS = 64


def prune(model, ids, sizes):
    shape = Shape.of(model.config)
    for size in sizes:
        limit = int(size * shape.params)
        pairs = kept.uniform_widths(shape, limit, range(shape.layers))
        widths = min(pairs, key=lambda widths: walk(model, ids[:CHOICE_WINDOWS], shape, widths)[0])
        _, chosen = walk(model, ids, shape, widths)
        yield size, Pruned(chosen, ids.numel(), {"groups": widths[0], "width": widths[1]})


def walk(model, ids, shape, widths):
    """Loss on the first windows, and what is kept when every layer is pruned to `widths`, one after the other."""
    chosen = Kept.all(shape)
    with kept.zeroed(model, chosen):
        hidden = parent.embedded(model, ids)
        for place, layer in enumerate(model.model.layers):
            into_o, into_down, _ = activations.layer_moments(model, layer, hidden)
            groups = by_group(score(layer.self_attn.o_proj, into_o), shape)
            chosen.groups[place] = kept.highest(groups, widths[0])
            chosen.channels[place] = kept.highest(score(layer.mlp.down_proj, into_down), widths[1])
            kept.zero(model, chosen)
            hidden = parent.through(model, layer, hidden)
        return parent.nll(model, hidden[:CHOICE_WINDOWS], ids[:CHOICE_WINDOWS]), chosen


def score(projection, moments):
    """Of each input column."""
    return projection.weight.abs().mean(0).double() * moments.rms
