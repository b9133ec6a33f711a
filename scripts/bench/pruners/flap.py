"""FLAP: how much each input of o_proj and down_proj fluctuates, standardised, in one ranking over all layers; the mean of what
is dropped becomes a bias.

arXiv 2312.11983: equation 4 (variance of an input times the squared norm of its column, "WIFV"), equation 5 (standardised
within each layer), equation 6 (the bias). As `prune_flap` in lib/prune.py of CASIA-IVA-Lab/FLAP does by default ("AL-AM"), the
attention's metric is squared before it is standardised, and a head's score is the mean over its columns; here a KV group's is.
All statistics are the parent's. Biases count as parameters.
"""

import torch

import activations
import kept
from kept import Kept, Shape
from pruned import Pruned

WINDOWS = 64
ATTENTION_POWER = 2


def prune(model, ids, sizes):
    shape = Shape.of(model.config)
    moments = activations.all_moments(model, ids)
    groups, channels = scores(model, moments, shape)
    for size in sizes:
        whole = Kept.all(shape, biased=True)
        chosen = kept.drop_least(shape, whole, groups, channels, int(size * shape.params))
        settings = {"metric": "WIFV", "structure": "AL-AM", "attention_power": ATTENTION_POWER}
        yield size, Pruned(chosen, ids.numel(), settings, compensation(model, moments, chosen, shape))


def scores(model, moments, shape):
    """Of the groups (layers, k) and the channels (layers, f)."""
    fluctuation = lambda projection, seen: seen.variance * projection.weight.square().sum(0).double()
    layers = list(zip(model.model.layers, moments, strict=True))
    attention = torch.stack([fluctuation(layer.self_attn.o_proj, into_o) for layer, (into_o, _) in layers])
    channels = torch.stack([fluctuation(layer.mlp.down_proj, into_down) for layer, (_, into_down) in layers])
    attention = standardised(attention**ATTENTION_POWER)
    return attention.view(shape.layers, shape.kv_heads, -1).mean(2), standardised(channels)


def standardised(metric):
    """Mean 0 and deviation 1 within each layer."""
    return (metric - metric.mean(1, keepdim=True)) / metric.std(1, keepdim=True)


def compensation(model, moments, chosen, shape):
    """Biases of o_proj and down_proj (layers, d) that add what the dropped inputs add on average."""
    output, down = [], []
    for place, (layer, (into_o, into_down)) in enumerate(zip(model.model.layers, moments, strict=True)):
        dropped = ~kept.columns(shape, chosen.groups[place])
        output.append(layer.self_attn.o_proj.weight.double() @ (into_o.mean * dropped))
        down.append(layer.mlp.down_proj.weight.double() @ (into_down.mean * ~chosen.channels[place]))
    return torch.stack(output).float(), torch.stack(down).float()
