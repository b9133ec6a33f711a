"""SliceGPT: the residual stream in a basis of its own before every block, without the directions that vary least.

arXiv 2401.15024, sections 3.2 to 3.4, and rotate_and_slice in src/slicegpt/rotate.py of microsoft/TransformerCompression: norm
weights go into the matrices behind them, each basis is the PCA of what the sliced layers before pass on, a shortcut matrix
brings the residual from one basis to the next, and what enters the head is not sliced.

No plain LLaMA computes that. In the parent's coordinates each block is followed by a projection of the whole residual
stream, another one every time, and a LLaMA has no matrix on its residual. So the network is a module of its own here.

One thing is kinder than the original: the tied embedding stays one matrix. Its rotation is a matrix of hidden size x width
behind it, and the head reads the parent's coordinates. The original unties the two and would pay for the embedding twice.
Shortcuts count as parameters. The original rounds widths to multiples of 8; here any width goes.
"""

import dataclasses
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb

import kept
import parent
from kept import Shape

WINDOWS = 64


def prune(model, ids, sizes):
    shape = Shape.of(model.config)
    for size in sizes:
        limit = int(size * shape.params)
        width = max(width for width in range(1, shape.hidden + 1) if params(shape, width) <= limit)
        yield size, Sliced(sliced(model, ids, width), width, ids.numel())


def params(shape, width):
    """All parameters of a network whose residual stream is `width` wide."""
    rows = 2 * shape.head_dim * (shape.heads + shape.kv_heads) + 3 * shape.mlp + 2 * width
    last = (shape.hidden - width) * (shape.mlp + width)
    return shape.ends + shape.hidden * width + shape.layers * rows * width + last


@dataclasses.dataclass
class Sliced:
    """As `Pruned`, for a network that is no LLaMA."""

    network: "SlicedLlama"
    width: int
    tokens: int

    def params(self, model):
        return sum(weight.numel() for weight in self.network.parameters())

    def facts(self):
        return {"calibration_tokens": self.tokens, "settings": {"width": self.width}}

    def write(self, model, parent_path, out):
        out = pathlib.Path(out)
        out.mkdir(parents=True, exist_ok=True)
        config = {**model.config.to_dict(), "model_type": "sliced_llama", "sliced_width": self.width}
        (out / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
        save_file(self.network.state_dict(), out / "model.safetensors", {"format": "pt"})
        kept.copy_tokenizer(parent_path, out)


class SlicedLayer(nn.Module):
    """Attention and MLP between `width` wide streams; the last layer's `out` is the hidden size."""

    def __init__(self, shape, width, out, eps):
        super().__init__()
        self.shape, self.eps = shape, eps
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        matrix = lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False)
        self.q, self.k, self.v, self.o = matrix(width, queries), matrix(width, keys), matrix(width, keys), matrix(queries, width)
        self.gate, self.up, self.down = matrix(width, shape.mlp), matrix(width, shape.mlp), matrix(shape.mlp, out)
        self.attention_shortcut, self.mlp_shortcut = matrix(width, width), matrix(width, out)

    def normed(self, stream):
        """RMS over the parent's hidden size: what was sliced away counts as zero."""
        return stream * torch.rsqrt(stream.square().sum(-1, keepdim=True) / self.shape.hidden + self.eps)

    def attended(self, stream, rotary):
        """What enters o: (windows, t, h e)."""
        stream = self.normed(stream)
        heads = lambda projection: projection(stream).unflatten(-1, (-1, self.shape.head_dim)).transpose(1, 2)  # (windows, h, t, e)
        q, k = apply_rotary_pos_emb(heads(self.q), heads(self.k), *rotary)
        v = heads(self.v).to(q.dtype)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return attended.transpose(1, 2).flatten(2)

    def gated(self, stream):
        """What enters down: (windows, t, f)."""
        stream = self.normed(stream)
        return nn.functional.silu(self.gate(stream)) * self.up(stream)

    def forward(self, stream, rotary):
        stream = self.attention_shortcut(stream).float() + self.o(self.attended(stream, rotary))
        return self.mlp_shortcut(stream).float() + self.down(self.gated(stream))


class SlicedLlama(nn.Module):
    """The network: embedding, its rotation, sliced layers, the parent's norm and tied head."""

    def __init__(self, config, width):
        super().__init__()
        shape = Shape.of(config)
        assert shape.tied, "the output matrix is another one than the embedding"
        self.embedding = nn.Embedding(shape.vocab, shape.hidden)
        self.rotation = nn.Linear(shape.hidden, width, bias=False)
        outs = [width] * (shape.layers - 1) + [shape.hidden]
        self.layers = nn.ModuleList(SlicedLayer(shape, width, out, config.rms_norm_eps) for out in outs)
        self.norm = LlamaRMSNorm(shape.hidden, config.rms_norm_eps)
        self.rotary = LlamaRotaryEmbedding(config)

    @classmethod
    def open(cls, path):
        config = json.loads(pathlib.Path(path, "config.json").read_text(encoding="utf-8"))
        width = config.pop("sliced_width")
        network = cls(LlamaConfig(**{**config, "model_type": "llama"}), width)
        network.load_state_dict(load_file(pathlib.Path(path, "model.safetensors")))
        return network.eval().requires_grad_(False)

    def angles(self, stream):
        return self.rotary(stream, position_ids=torch.arange(stream.shape[1])[None])

    def states(self, ids):
        """What enters the head: (windows, t, d)."""
        stream = self.rotation(self.embedding(ids)).float()
        rotary = self.angles(stream)
        for layer in self.layers:
            stream = layer(stream, rotary)
        return self.norm(stream)

    def head(self, states):
        return nn.functional.linear(states, self.embedding.weight)

    def forward(self, ids):
        return self.head(self.states(ids))


@torch.no_grad()
def sliced(model, ids, width):
    """The network of a residual stream of `width`, its bases found layer by layer."""
    network = SlicedLlama(model.config, width).eval().requires_grad_(False)
    network.embedding.weight.copy_(model.model.embed_tokens.weight)
    network.norm.weight.copy_(model.model.norm.weight)
    full = parent.embedded(model, ids)
    basis = principal(full, width)
    network.rotation.weight.copy_(basis.T)
    stream = full @ basis
    rotary = network.angles(stream)
    for layer, original in zip(network.layers, model.model.layers, strict=True):
        attention, mlp = original.self_attn, original.mlp
        folded = original.input_layernorm.weight
        for part, whole in [(layer.q, attention.q_proj), (layer.k, attention.k_proj), (layer.v, attention.v_proj)]:
            part.weight.copy_(whole.weight * folded @ basis)
        full = stream @ basis.T + batched(lambda batch: layer.attended(batch, rotary), stream, attention.o_proj)
        basis, before = principal(full, width), basis
        stream = full @ basis
        layer.o.weight.copy_(basis.T @ attention.o_proj.weight)
        layer.attention_shortcut.weight.copy_(basis.T @ before)

        folded = original.post_attention_layernorm.weight
        for part, whole in [(layer.gate, mlp.gate_proj), (layer.up, mlp.up_proj)]:
            part.weight.copy_(whole.weight * folded @ basis)
        full = stream @ basis.T + batched(layer.gated, stream, mlp.down_proj)
        last = layer is network.layers[-1]
        basis, before = torch.eye(full.shape[-1]) if last else principal(full, width), basis
        stream = full @ basis
        layer.down.weight.copy_(basis.T @ mlp.down_proj.weight)
        layer.mlp_shortcut.weight.copy_(basis.T @ before)
    return network


def batched(part, stream, projection):
    """`projection` of what `part` makes of the stream, a few windows at a time."""
    with parent.products():
        return torch.cat([projection(part(batch)).float() for batch in stream.split(parent.BATCH)])


def principal(full, width):
    """The `width` directions (d, width) of largest second moment."""
    flat = full.flatten(0, 1)
    moment = sum(rows.double().T @ rows.double() for rows in flat.split(8192))
    return torch.linalg.eigh(moment).eigenvectors.flip(1)[:, :width].float()
