"""The parent network, windows of a calibration text, and a walk through the parent's layers.

Products run in bfloat16 where `arithmetic()` is left as it is; the residual stream, norms and sums stay float32.
"""

import contextlib
import pathlib

import torch
import transformers
from transformers import AutoTokenizer, LlamaForCausalLM

transformers.utils.logging.disable_progress_bar()

BATCH = 4  # windows that share a forward pass
_bf16 = True


def arithmetic(name):
    """Products in `bf16` or `f32` from now on."""
    global _bf16
    _bf16 = name == "bf16"


def products():
    """The context in which all methods run their forward passes."""
    return torch.autocast("cpu", torch.bfloat16, enabled=_bf16)


def open_parent(path):
    """The network, float32 and without gradients, and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    return model.requires_grad_(False), AutoTokenizer.from_pretrained(path)


def windows(path, tokenizer, count, length=512):
    """The first `count` windows of a text: ids (count, length)."""
    text = pathlib.Path(path).read_text(encoding="utf-8")[: 12 * count * length]
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < count * length:
        raise SystemExit(f"{path}: {len(ids)} tokens, {count} windows of {length} need {count * length}")
    return torch.tensor(ids[: count * length]).view(count, length)


@torch.no_grad()
def embedded(model, ids):
    """What enters the first layer: (windows, t, d)."""
    return model.model.embed_tokens(ids)


@torch.no_grad()
def through(model, layer, hidden, watch=None):
    """What leaves `layer` when `hidden` (windows, t, d) enters. `watch` maps modules to functions that see their inputs."""
    positions = torch.arange(hidden.shape[1])[None]
    rotary = model.model.rotary_emb(hidden, position_ids=positions)
    with watching(watch or {}), products():
        batches = [
            layer(batch, position_ids=positions, position_embeddings=rotary).float() for batch in hidden.split(BATCH)
        ]
    return torch.cat(batches)


@contextlib.contextmanager
def watching(watch):
    """Calls `watch[module]` with each input of the module, in float32."""
    hook = lambda see: lambda _, inputs: see(inputs[0].detach().float())
    handles = [module.register_forward_pre_hook(hook(see)) for module, see in watch.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def nll(model, hidden, ids):
    """Mean negative log-likelihood of `ids` when `hidden` leaves the last layer, nats a token."""
    total = 0.0
    for states, batch in zip(hidden.split(BATCH), ids.split(BATCH), strict=True):
        with products():
            logits = model.lm_head(model.model.norm(states[:, :-1]))
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="sum").item()
    return total / ids[:, 1:].numel()


def loss(model, ids):
    """Mean negative log-likelihood of `ids` (windows, t) after all layers, nats a token."""
    hidden = embedded(model, ids)
    for layer in model.model.layers:
        hidden = through(model, layer, hidden)
    return nll(model, hidden, ids)


def gradients(model, ids):
    """Gradients of the mean loss over `ids` in every matrix of the layers: they lie in `.grad`."""
    for layer in model.model.layers:
        for projection in projections(layer):
            projection.weight.requires_grad_(True).grad = None
    for batch in ids.split(BATCH):
        with products():
            logits = model(batch, use_cache=False).logits
        part = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten(), reduction="sum")
        (part / ids[:, 1:].numel()).backward()


def projections(layer):
    """The seven matrices of a layer: queries, keys, values, output, gate, up, down."""
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj]
