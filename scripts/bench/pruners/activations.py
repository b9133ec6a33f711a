"""What flows into o_proj and down_proj: the statistics that forward-only methods score structures with."""

import torch

import parent


class Moments:
    """Sum and sum of squares of each input column over all tokens, and what Minitron sums up."""

    def __init__(self, width, head_dim=1):
        self.tokens, self.sum, self.squares = 0, torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
        self.head_dim = head_dim
        self.batch_l2 = torch.zeros(width // head_dim, dtype=torch.float64)

    def see(self, inputs):
        """Inputs (windows, t, width)."""
        flat = inputs.flatten(0, 1)
        self.tokens += len(flat)
        self.sum += flat.sum(0).double()
        self.squares += flat.square().sum(0).double()
        heads = inputs.unflatten(-1, (-1, self.head_dim))  # (windows, t, h, e), or (windows, t, f, 1)
        norms = heads.norm(dim=-1) if self.head_dim > 1 else inputs.abs()
        self.batch_l2 += norms.mean(1).square().sum(0).double()

    @property
    def mean(self):
        return self.sum / self.tokens

    @property
    def rms(self):
        return (self.squares / self.tokens).sqrt()

    @property
    def variance(self):
        return (self.squares / self.tokens - self.mean.square()).clamp(min=0)


def layer_moments(model, layer, hidden):
    """Moments of the inputs of o_proj and down_proj, and the layer's output, when `hidden` enters."""
    attention, mlp = layer.self_attn.o_proj, layer.mlp.down_proj
    into_o, into_down = Moments(attention.in_features, layer.self_attn.head_dim), Moments(mlp.in_features)
    out = parent.through(model, layer, hidden, {attention: into_o.see, mlp: into_down.see})
    return into_o, into_down, out


def all_moments(model, ids):
    """`layer_moments` of every layer of the whole parent."""
    hidden, found = parent.embedded(model, ids), []
    for layer in model.model.layers:
        into_o, into_down, hidden = layer_moments(model, layer, hidden)
        found.append((into_o, into_down))
    return found
