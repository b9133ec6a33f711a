"""Makes tests/goldens/families: a tiny seeded model of every family that is read, and what transformers computes with it.

    python3 tests/goldens/make_families.py [OUT]      # needs torch, transformers, safetensors

One directory a model: `config.json`, `model.safetensors` (bfloat16), and

    golden.json             tokens, the log-probability of each after those before it, float32 logits of the last ones; the same
                            logits of a narrow network, the parent's weights zeroed where it has none; a greedy continuation
    gradients.safetensors   gradients of the mean cross entropy of the tokens, for every vector and two matrices

`tokenizer.json` is theirs, bytes and two merges. `rope.json` holds the log-probabilities of a long sequence in tests/goldens/tiny-llama under every kind of rotary scaling,
computed in float64: float32 is off by up to 4e-5 there. All else is float32 on the CPU; weights are drawn at about twice the usual scale, biases and norms vary, so that a wrong rotation, mask, bias
or head order moves the logits far beyond rounding.
"""

import json
import math
import pathlib
import platform
import sys

import safetensors.torch
import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).parent
OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "families"
SIZES = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
# Windows are shorter than the sequence of tokens; of Qwen's layers only some have one.
MODELS = {
    "llama-biases": (transformers.LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "mistral-window": (transformers.MistralConfig, {"sliding_window": 7}),
    "qwen2": (transformers.Qwen2Config, {"tie_word_embeddings": True}),
    "qwen2-window": (transformers.Qwen2Config, {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3-biases": (transformers.Qwen3Config, {"attention_bias": True}),
}
TOKENS = [(place * place * 7 + 11 * place + 5) % 260 for place in range(24)]
LAST = 2
NARROW = "2x32:4x16:4x64"
ROPES = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
    "yarn, bounds of its own": {
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "beta_fast": 8.0,
        "beta_slow": 2.0,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
        "truncate": False,
    },
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "longrope": {
        "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0],
        "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0],
        "original_max_position_embeddings": 256,
        "factor": 4.0,
    },
}
POSITIONS = {"longrope": 1024}
MADE_BY = {
    "transformers": transformers.__version__,
    "torch": torch.__version__,
    "python": platform.python_version(),
    "device": "cpu",
    "dtype": "float32",
}


def numbers(tensor):
    return json.loads(json.dumps(tensor.tolist()), parse_float=lambda text: float(f"{float(text):.7g}"))


def load(directory, config=None):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, config=config, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def make(config):
    torch.manual_seed(20261125)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.copy_(torch.randn_like(weight) * 0.5)
            elif weight.dim() == 1:
                weight.copy_(1.0 + 0.2 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * 2.0 / math.sqrt(weight.shape[1]))
    return model.to(torch.bfloat16)


def zero_outside(model, genome):
    """Zeros what a network does not have: rows behind its heads and channels, and the columns that would read them."""
    for layer, gene in zip(model.model.layers, genome.split(":")):
        heads, width = (int(number) for number in gene.split("x"))
        attention, mlp = layer.self_attn, layer.mlp
        size = attention.head_dim
        group = model.config.num_attention_heads // model.config.num_key_value_heads
        for matrix, rows in [
            (attention.q_proj, heads * size),
            (attention.k_proj, heads // group * size),
            (attention.v_proj, heads // group * size),
            (mlp.gate_proj, width),
            (mlp.up_proj, width),
        ]:
            matrix.weight[rows:] = 0
            if matrix.bias is not None:
                matrix.bias[rows:] = 0
        attention.o_proj.weight[:, heads * size :] = 0
        mlp.down_proj.weight[:, width:] = 0


def golden(directory):
    tokens = torch.tensor([TOKENS])
    model = load(directory)
    logits = model(tokens).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:])
    loss.backward()
    matrices = ["model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.up_proj.weight"]
    gradients = {
        name: weight.grad for name, weight in model.named_parameters() if weight.dim() == 1 or name in matrices
    }
    safetensors.torch.save_file(
        {"loss": loss.detach()} | gradients, directory / "gradients.safetensors", {"golden": json.dumps(MADE_BY)}
    )
    with torch.no_grad():
        model.generation_config.eos_token_id = None
        out = model.generate(tokens[:, :10], max_new_tokens=14, do_sample=False, pad_token_id=0)[0]
        first, second = model(out[None]).logits[0, 9:-1].topk(2).values.unbind(-1)
        zero_outside(model, NARROW)
        narrow = model(tokens).logits[0, -LAST:]
    return {
        "made_by": MADE_BY,
        "tokens": TOKENS,
        "log_probs": numbers(logits.log_softmax(-1)[:-1].gather(1, tokens[0, 1:, None])[:, 0]),
        "logits": numbers(logits[-LAST:]),
        "loss": numbers(loss),
        "narrow": {"genome": NARROW, "logits": numbers(narrow)},
        "generated": {"tokens": out[10:].tolist(), "smallest_lead": numbers((first - second).min())},
    }


def ropes():
    tiny = HERE / "tiny-llama"
    tokens = [(place * place * 13 + 29 * place + 3) % 512 for place in range(190)]
    cases = []
    for name, keys in {"default": {}, **ROPES}.items():
        config = transformers.LlamaConfig.from_pretrained(tiny)
        kind = name.split(",")[0]
        scaling = {"rope_type": kind, **keys}
        config.rope_parameters = {"rope_theta": 10000.0, **scaling}
        config.max_position_embeddings = POSITIONS.get(kind, config.max_position_embeddings)
        model = load(tiny, config).double()
        with torch.no_grad():
            log_probs = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        following = log_probs[:-1].gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
        positions = config.max_position_embeddings
        cases.append(
            {"name": name, "rope_scaling": scaling, "max_position_embeddings": positions, "log_probs": numbers(following)}
        )
    return {"made_by": MADE_BY | {"dtype": "float64"}, "tokens": tokens, "cases": cases}


def make_tokenizer(directory):
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<s>", "</s>", *alphabet, "th", "the"]
    model = tokenizers.models.BPE({token: place for place, token in enumerate(vocabulary)}, [("t", "h"), ("th", "e")])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(directory / "tokenizer.json"))


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    make_tokenizer(OUT)
    for name, (config_class, extra) in MODELS.items():
        directory = OUT / name
        make(config_class(**SIZES | extra)).save_pretrained(directory)
        for other in ["generation_config.json"]:
            (directory / other).unlink(missing_ok=True)
        (directory / "golden.json").write_text(json.dumps(golden(directory), separators=(",", ":")) + "\n")
    (OUT / "rope.json").write_text(json.dumps(ropes(), separators=(",", ":")) + "\n")


main()
