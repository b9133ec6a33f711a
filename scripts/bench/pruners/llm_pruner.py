"""LLM-Pruner, Taylor of the first order element by element ("param_first"): uniform widths between protected layers.

arXiv 2305.11627, equation 5 without its second-order term, and TaylorImportance in LLMPruner/pruner/hf_llama_pruner.py of
horseee/LLM-Pruner: the sum of |w dL/dw| over all weights of a coupled structure. Every layer but the first four and the last
two loses the same share, as in the authors' command for LLaMA-7B (`--block_mlp_layer_start 4 --block_mlp_layer_end 30` of 32).

The gradient is of the mean loss over the calibration text; the authors take 10 texts of 64 tokens. Their alignment of
grouped queries adds query heads of other groups to a KV head; here a group's weights are its own. As for the other uniform
methods, the number of KV groups is the one whose network loses least on the calibration text.
"""

import torch

import gisp
import kept
import parent
from kept import Shape
from pruned import Pruned, best_uniform

WINDOWS = 64
FIRST, LAST = 4, 2


def prune(model, ids, sizes):
    shape = Shape.of(model.config)
    layers = range(FIRST, shape.layers - LAST)
    parent.gradients(model, ids)
    groups, channels = map(torch.stack, zip(*(gisp.layer_importances(layer, shape, "absolute") for layer in model.model.layers)))
    for size in sizes:
        pairs = kept.uniform_widths(shape, int(size * shape.params), layers)
        networks = [(widths, kept.uniform(shape, groups, channels, widths, layers)) for widths in pairs]
        widths, chosen = best_uniform(model, ids, networks)
        settings = {"groups": widths[0], "width": widths[1], "pruned_layers": [layers[0], layers[-1]]}
        yield size, Pruned(chosen, ids.numel(), settings)
