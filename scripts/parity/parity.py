"""Do other runtimes compute what was exported? Exports networks in every format and compares log-probabilities.

    python3 scripts/parity/parity.py --criadero target/release/criadero --model MODEL.gguf [--genome TEXT]... [--work DIR]

Needs torch, transformers and gguf in this Python, and node-llama-cpp in NODE_MODULES (or beside where this runs).
Every runtime gets the same tokens of the same text, in float32 (llama.cpp with a float32 key/value cache). The
reference is transformers on the hf-padded export: plain LLaMA, no code of ours. Exits with 1 when a difference is
above the tolerance or token ids differ.

A quantized network has two GGUF rows: its blocks' values written as F32, which must agree as closely as any other, and the
blocks themselves, where llama.cpp rounds activations to 8 bits before every product: its own rounding, judged by means. That
the blocks hold those values is shown by llama.cpp's own Python reader, weight by weight.
"""

import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time

import gguf
import safetensors.torch
import torch
import transformers
from runtimes import TOLERANCE, with_llama_cpp, with_transformers

#: Where llama.cpp rounds activations, of the mean of all log-probabilities; one of an unlikely token may be off by far more.
ROUNDED_MEAN = 0.05
TEXT = """The vicuña is the wild ancestor of the alpaca. It lives in the high Andes, at 3,200 to 4,800 metres, and is
shorn once in two or three years. In 1974 there were only 6,000 of them; today there are about 350,000. Don't call
it a llama: llamas carry loads, weigh up to 200 kg, and spit when they are cross."""
# Every rule of the GGUF export at once: a first kept layer without attention, one without MLP, mixed widths.
GENOME = "-:0x1536:9x1536*4:3x1280*4:6x0:-:0x1024:9x768*8:6x1504*9"
# And what llama.cpp's rounding of activations may do to the mean log-probability of each.
QUANTIZED = {
    "E@8:9x1536@8*30": 0.002,
    "E@4:9x1536@4*30": 0.03,
    "E@q4_1:9x1536@q4_1*30": ROUNDED_MEAN,
    # The same rules in mixed bits, rows of 576 that fall back from K-quants, and rows of 1,536 that do not.
    "E@8:-:0x1536@8:9x1536@4*4:3x1280@q4_1*4:6x0@8:-:0x1024@q6_k:9x768*8:6x1504@8*5:9x1536@q4_k*2:9x1536@q5_k:9x1536@q6_k": 0.03,
}


def export(arguments, genome, form, model=None):
    """A directory with the network that `genome` cuts from a model, by default the one of the command line."""
    out = arguments.work / (form if model is None else f"{form}-values")
    command = [arguments.criadero, "export", model or arguments.model, f"--genome={genome}", "--format", form]
    subprocess.run([*command, "--out", out, "--dtype", "f32"], check=True, stdout=subprocess.DEVNULL)
    return out


def kept_widths(genome):
    """The network as its own export names it: no bits, and no dropped layers."""
    runs = [run for run in genome.split(":") if not run.startswith(("E@", "H@", "-"))]
    return ":".join(re.sub(r"@\w+", "", run) for run in runs)


def reads_alike(file, directory):
    """How many matrices of a GGUF file are in blocks, and by how much its values, as gguf-py reads them, differ from those of
    the directory of the same network, at most."""
    held = {name: tensor for path in directory.glob("*.safetensors") for name, tensor in safetensors.torch.load_file(path).items()}
    head_dim = json.loads((directory / "config.json").read_text())["head_dim"]
    ours = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}
    parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    count, largest = 0, 0.0
    for tensor in gguf.GGUFReader(file).tensors:
        name = tensor.name.removesuffix(".weight")
        if name.startswith("blk."):
            _, layer, part = name.split(".")
            name = f"model.layers.{layer}.{parts.get(part, part)}"
        expected = held.get(f"{ours.get(name, name)}.weight")
        values = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        if tensor.tensor_type in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16) or expected is None:
            assert expected is not None or "norm" in name or not values.any(), f"{name} is in the file alone"
            continue
        if name.endswith(("q_proj", "k_proj")):
            values = values.view(-1, head_dim // 2, 2, values.shape[1]).transpose(1, 2).reshape(values.shape)
        count += 1
        difference = (values - expected).abs().max().item()
        assert math.isfinite(difference), f"{name} holds what is no number"
        largest = max(largest, difference)
    assert count > 0, f"{file} has no matrix in blocks"
    return count, largest


def with_criadero(arguments, genome, tokens, reference):
    """The second half of the text after the first: our own log-likelihood, and the reference's."""
    middle = TEXT.index(" ", len(TEXT) // 2)
    task, rows = arguments.work / "halves.jsonl", arguments.work / "halves_scored.jsonl"
    task.write_text(json.dumps({"context": TEXT[:middle], "choices": [TEXT[middle + 1 :]], "gold": 0}) + "\n")
    command = [arguments.criadero, "eval", arguments.model, f"--genome={genome}", "--task", task]
    subprocess.run([*command, "--per-item", rows], check=True, stdout=subprocess.DEVNULL)
    [ours] = json.loads(rows.read_text())["log_likelihoods"]
    first = transformers.AutoTokenizer.from_pretrained(arguments.work / "hf-padded")(TEXT[:middle])["input_ids"]
    assert first == tokens[: len(first)], "the text is not cut between tokens"
    return ours, sum(reference[len(first) - 1 :]), len(tokens) - len(first)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True)
    parser.add_argument("--genome", action="append", help="may be given more than once")
    parser.add_argument("--out", type=pathlib.Path, help="file for what is printed")
    parser.add_argument("--work", type=pathlib.Path, help="kept when given; a temporary directory otherwise")
    arguments = parser.parse_args()
    temporary = None
    if arguments.work is None:
        temporary = tempfile.TemporaryDirectory()
        arguments.work = pathlib.Path(temporary.name)
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(os.cpu_count() or 1)

    version = subprocess.run([arguments.criadero, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    say(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {version}, gguf {importlib.metadata.version('gguf')}\n")
    failed = [genome for genome in arguments.genome or [GENOME, *QUANTIZED] if not agrees(arguments, genome)]
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("\n".join(SAID) + "\n", encoding="utf-8")
    sys.exit(1 if failed else 0)


def agrees(arguments, genome):
    """Prints a table of one network; whether every row is within its tolerance."""
    quantized = "@" in genome
    llama_cpp = lambda directory: with_llama_cpp(directory / "model.gguf", TEXT, tokens, arguments.work)
    tokens, reference, name = with_transformers(export(arguments, genome, "hf-padded"), text=TEXT)
    rows = [("hf-padded", name, tokens, reference)]
    directory = export(arguments, genome, "hf")
    rows.append(("hf", *reordered(with_transformers(directory, text=TEXT))))
    rounded = None
    if quantized:
        rows.append(("gguf, F32", *reordered(llama_cpp(export(arguments, kept_widths(genome), "gguf", directory)))))
        rounded = ("gguf", *reordered(llama_cpp(export(arguments, genome, "gguf"))))
    else:
        rows.append(("gguf", *reordered(llama_cpp(export(arguments, genome, "gguf")))))

    say(f"genome {genome}, {len(tokens)} tokens, tolerance {TOLERANCE}")
    say(f"{'export':10} {'runtime':48} {'mean NLL':>10} {'mean |d log p|':>15} {'largest |d log p|':>18} {'token ids':>10}")
    good = True
    for form, name, own_tokens, log_probs in [*rows, *filter(None, [rounded])]:
        largest = max(abs(a - b) for a, b in zip(log_probs, reference, strict=True))
        same = own_tokens == tokens
        nll, expected = -sum(log_probs) / len(log_probs), -sum(reference) / len(reference)
        own = rounded is not None and form == "gguf"
        rounding = QUANTIZED.get(genome, ROUNDED_MEAN)
        good &= same and (abs(nll - expected) <= rounding if own else largest <= TOLERANCE)
        note = f" (activations rounded by llama.cpp; mean within {rounding})" if own else ""
        mean = sum(abs(a - b) for a, b in zip(log_probs, reference, strict=True)) / len(log_probs)
        say(f"{form:10} {name:48} {nll:10.6f} {mean:15.2e} {largest:18.2e} {'equal' if same else 'DIFFER':>10}{note}")
    if quantized:
        count, difference = reads_alike(arguments.work / "gguf" / "model.gguf", directory)
        good &= difference == 0
        bits = "bit for bit" if difference == 0 else f"but for differences of up to {difference:.1e}"
        say(f"{count} matrices in blocks: gguf-py reads the directory's values {bits}")
    ours, theirs, count = with_criadero(arguments, genome, tokens, reference)
    good &= abs(ours - theirs) <= TOLERANCE
    say(f"criadero eval, the last {count} tokens together: {ours:.6f}, {ours - theirs:+.2e} to the reference\n")
    return good


SAID = []


def say(line):
    print(line, flush=True)
    SAID.append(line)


def reordered(result):
    tokens, log_probs, name = result
    return name, tokens, log_probs


main()
