"""SLEB: drops one layer at a time, each time the one without which the calibration text is least surprising.

arXiv 2402.09025, algorithm 1, and sleb.py of jiwonsong-dev/SLEB: all remaining layers but the first and the last are tried, the
loss is measured again after each removal. The networks are nested: one run gives all sizes. States that enter a layer are
kept while the layers behind are tried. The authors measure on 128 windows of 2,048 tokens.
"""

import parent
import shortgpt
from kept import Shape
from pruned import Pruned

WINDOWS = 16


def prune(model, ids, sizes):
    shape = Shape.of(model.config)
    alive, dropped = list(range(shape.layers)), []
    for size in sizes:
        while len(dropped) < shortgpt.count_of(shape, size):
            losses = losses_without(model, ids, alive)
            dropped.append(min(losses, key=losses.get))
            alive.remove(dropped[-1])
        yield size, Pruned(shortgpt.without(shape, list(dropped)), ids.numel(), {"dropped": list(dropped)})


def losses_without(model, ids, alive):
    """Loss of the network of the layers `alive` without each one but its first and last."""
    layers = [model.model.layers[place] for place in alive]
    hidden, losses = parent.embedded(model, ids), {}
    for skipped in range(len(alive) - 1):
        if skipped > 0:
            states = hidden
            for layer in layers[skipped + 1 :]:
                states = parent.through(model, layer, states)
            losses[alive[skipped]] = parent.nll(model, states, ids)
        hidden = parent.through(model, layers[skipped], hidden)
    return losses
