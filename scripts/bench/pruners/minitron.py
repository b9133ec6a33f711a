"""Minitron's width pruning without its training: uniform widths, importances of one forward pass of the parent.

arXiv 2407.14679, section 2.2: a neuron's importance is its activation, a head's the L2 norm of its output; mean over the
sequence, then L2 norm over the sequences (its table of aggregations calls that (L2, mean)). A KV group's is the sum over its
heads. Section 2.3 enumerates the networks of a size and takes the one that loses least: so here, over the number of groups,
but without the light training in between.
"""

import torch

import activations
import kept
from kept import Shape
from pruned import Pruned, best_uniform, by_group

WINDOWS = 64


def prune(model, ids, sizes):
    shape = Shape.of(model.config)
    moments = activations.all_moments(model, ids)
    groups = torch.stack([by_group(into_o.batch_l2.sqrt(), shape) for into_o, _ in moments])
    channels = torch.stack([into_down.batch_l2.sqrt() for _, into_down in moments])
    for size in sizes:
        pairs = kept.uniform_widths(shape, int(size * shape.params), range(shape.layers))
        networks = [(widths, kept.uniform(shape, groups, channels, widths, range(shape.layers))) for widths in pairs]
        widths, chosen = best_uniform(model, ids, networks)
        yield size, Pruned(chosen, ids.numel(), {"groups": widths[0], "width": widths[1]})
