"""What a pruned network keeps of its parent, how many parameters that is, and how it is written.

A structure is a KV group of a layer (its query heads with their key/value head) or one MLP channel. A network is written in
its parent's shape with zeros where a structure is gone, so that any LLaMA code computes the pruned network's function.
"""

import contextlib
import copy
import dataclasses
import pathlib
import shutil

import torch
from transformers import LlamaForCausalLM

TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
                   "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json"]


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the parent. d hidden, e head_dim, k KV heads, f MLP width."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    tied: bool

    @classmethod
    def of(cls, config):
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.num_key_value_heads,
                   head_dim, config.intermediate_size, config.vocab_size, config.tie_word_embeddings)

    @property
    def group(self):
        """Weights of a KV group: its rows of q, k, v and its columns of o."""
        return 2 * self.hidden * self.head_dim * (self.heads // self.kv_heads + 1)

    @property
    def channel(self):
        """Weights of an MLP channel: its rows of gate and up and its column of down."""
        return 3 * self.hidden

    @property
    def ends(self):
        """Embedding, output matrix if it is another one, and the last norm."""
        return self.hidden * self.vocab * (1 if self.tied else 2) + self.hidden

    @property
    def params(self):
        layer = self.kv_heads * self.group + self.mlp * self.channel + 2 * self.hidden
        return self.ends + self.layers * layer


@dataclasses.dataclass
class Kept:
    """True where a structure stays. `biased`: each half that lost something has a bias of hidden size instead."""

    groups: torch.Tensor  # (layers, k)
    channels: torch.Tensor  # (layers, f)
    biased: bool = False

    @classmethod
    def all(cls, shape, biased=False):
        ones = lambda width: torch.ones(shape.layers, width, dtype=torch.bool)
        return cls(ones(shape.kv_heads), ones(shape.mlp), biased)

    def params(self, shape):
        """All parameters, the embedding included. A half that is not there has no norm either."""
        total = shape.ends + int(self.groups.sum()) * shape.group + int(self.channels.sum()) * shape.channel
        for half in [self.groups, self.channels]:
            total += shape.hidden * int(half.any(1).sum())
            total += shape.hidden * int((~half).any(1).sum()) if self.biased else 0
        return total

    def flat(self):
        return torch.cat([self.groups.flatten(), self.channels.flatten()])

    def with_flat(self, flat):
        groups, channels = flat.split([self.groups.numel(), self.channels.numel()])
        return Kept(groups.view_as(self.groups), channels.view_as(self.channels), self.biased)


def drop_least(shape, kept, group_scores, channel_scores, limit):
    """Drops the structures of the lowest scores until at most `limit` parameters stay, all layers in one ranking.

    The last one to go may be a whole group and leave room. Then what scored highest among the dropped and fits comes back.
    Structures of infinite score never go.
    """
    scores = torch.cat([group_scores.flatten(), channel_scores.flatten()]).double()
    before = kept.flat()
    order = torch.argsort(scores, stable=True)
    order = order[before[order] & scores[order].isfinite()]

    def without(count):
        flat = before.clone()
        flat[order[:count]] = False
        return kept.with_flat(flat)

    low, high = 0, len(order)
    if without(high).params(shape) > limit:
        raise SystemExit(f"no network of {limit} parameters: what may be dropped is too little")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if without(middle).params(shape) <= limit else (middle + 1, high)
    flat = without(low).flat()
    room = limit - kept.with_flat(flat).params(shape)
    for place in order[:low].flip(0).tolist():
        if room < shape.channel:
            break
        flat[place] = True
        back = limit - kept.with_flat(flat).params(shape)
        flat[place] = back >= 0
        room = back if back >= 0 else room
    return kept.with_flat(flat)


def uniform_widths(shape, limit, layers):
    """Pairs of KV groups and MLP width that fill `limit` when all of `layers` get them and the others stay whole."""
    layer = shape.kv_heads * shape.group + shape.mlp * shape.channel
    room = limit - (shape.params - len(layers) * layer)
    widths = [(groups, (room // len(layers) - groups * shape.group) // shape.channel) for groups in range(1, shape.kv_heads + 1)]
    return [(groups, width) for groups, width in widths if 0 < width <= shape.mlp]


def highest(scores, count):
    """True at the `count` highest scores."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[scores.topk(count).indices] = True
    return mask


def uniform(shape, group_scores, channel_scores, widths, layers):
    """The highest-scoring groups and channels of each of `layers`, as many as `widths` says; the other layers whole."""
    kept = Kept.all(shape)
    for place in layers:
        kept.groups[place] = highest(group_scores[place], widths[0])
        kept.channels[place] = highest(channel_scores[place], widths[1])
    return kept


def columns(shape, groups):
    """A mask of groups (k,) as one of the columns of o_proj, and of the rows of q_proj."""
    return groups.repeat_interleave(shape.heads // shape.kv_heads * shape.head_dim)


@torch.no_grad()
def zero(model, kept):
    """Takes what is dropped out of the function: its columns of o_proj and down_proj."""
    shape = Shape.of(model.config)
    for layer, groups, channels in zip(model.model.layers, kept.groups, kept.channels, strict=True):
        layer.self_attn.o_proj.weight[:, ~columns(shape, groups)] = 0
        layer.mlp.down_proj.weight[:, ~channels] = 0


@contextlib.contextmanager
def zeroed(model, kept):
    """As `zero`, for a while."""
    outputs = [part.weight for layer in model.model.layers for part in [layer.self_attn.o_proj, layer.mlp.down_proj]]
    whole = [weight.detach().clone() for weight in outputs]
    zero(model, kept)
    try:
        yield model
    finally:
        for weight, values in zip(outputs, whole, strict=True):
            weight.data.copy_(values)


@torch.no_grad()
def network(parent, kept, biases=None):
    """A LLaMA of the parent's shape that computes the pruned network. `biases`: of o_proj and down_proj, each (layers, d)."""
    shape = Shape.of(parent.config)
    config = copy.deepcopy(parent.config)
    if biases is not None:
        config.attention_bias = config.mlp_bias = True
    pruned = LlamaForCausalLM(config).eval()
    missing = pruned.load_state_dict(parent.state_dict(), strict=False).missing_keys
    assert all(name.endswith(".bias") for name in missing), missing
    for place, layer in enumerate(pruned.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        rows = columns(shape, kept.groups[place])
        heads = kept.groups[place].repeat_interleave(shape.head_dim)
        channels = kept.channels[place]
        for weight, mask in [(attention.q_proj.weight, rows), (attention.k_proj.weight, heads), (attention.v_proj.weight, heads),
                             (attention.o_proj.weight.T, rows), (mlp.gate_proj.weight, channels), (mlp.up_proj.weight, channels),
                             (mlp.down_proj.weight.T, channels)]:
            weight[~mask] = 0
        if biases is not None:
            for part in [attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj]:
                part.bias.zero_()
            attention.o_proj.bias.copy_(biases[0][place])
            mlp.down_proj.bias.copy_(biases[1][place])
    return pruned


def copy_tokenizer(parent_path, out):
    for name in TOKENIZER_FILES:
        source = pathlib.Path(parent_path, name)
        if source.is_file():
            shutil.copy(source, pathlib.Path(out, name))
