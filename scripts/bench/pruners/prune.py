"""Prunes a LLaMA with a method that a user would pick instead of a search, and writes what is left as a checkpoint.

    python3 scripts/bench/pruners/prune.py --method gisp --size 0.8 --model PARENT --calibration FILE --out DIR

`--size` is a share of the parent's parameters, the embedding included; the network is the largest of the method that is not
above it, with layer droppers the nearest. Several sizes go to OUT/SIZE: what a method finds for all of them at once is
computed once. Beside the weights lies pruned.json. All but SliceGPT's are plain LLaMAs with zeros where something is gone.

Needs torch 2.11, transformers 5.24, safetensors; for the parent, `criadero export MODEL --genome GENOME --format hf --dtype f32`.
"""

import argparse
import importlib
import json
import pathlib
import time

import torch

import parent
from kept import Shape

METHODS = ["gisp", "flap", "wanda_sp", "llm_pruner", "minitron", "slicegpt", "sleb", "shortgpt"]


def prune_to(method, outs, model_path, calibration, windows=None, length=512):
    """Prunes to every size of `outs`, a map from sizes to directories, and yields `(size, facts)` as each is written."""
    module = importlib.import_module(method)
    model, tokenizer = parent.open_parent(model_path)
    shape = Shape.of(model.config)
    ids = parent.windows(calibration, tokenizer, windows or module.WINDOWS, length)
    writing, start, busy = 0.0, time.perf_counter(), time.process_time()
    for size, pruned in module.prune(model, ids, sorted(outs, reverse=True)):
        found, used = time.perf_counter(), time.process_time() - busy
        params = pruned.params(model)
        facts = {"method": method, "size": size, "params": params, "fraction": params / shape.params,
                 "fraction_of_layers": (params - shape.ends) / (shape.params - shape.ends),
                 "seconds": round(found - start - writing, 1), "cpu_seconds": round(used, 1), "windows": list(ids.shape), **pruned.facts()}
        pruned.write(model, model_path, outs[size])
        pathlib.Path(outs[size], "pruned.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        writing += time.perf_counter() - found
        yield size, facts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", required=True, choices=METHODS)
    parser.add_argument("--size", required=True, type=float, nargs="+", help="share of the parent's parameters")
    parser.add_argument("--model", required=True, help="Hugging Face directory of the parent")
    parser.add_argument("--calibration", required=True, help="a text")
    parser.add_argument("--windows", type=int, help="calibration windows of 512 tokens; by default the method's own number")
    parser.add_argument("--arithmetic", default="bf16", choices=["bf16", "f32"], help="of matrix products")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parent.arithmetic(options.arithmetic)
    alone = len(options.size) == 1
    outs = {size: options.out if alone else options.out / f"{size:g}" for size in options.size}
    for size, facts in prune_to(options.method, outs, options.model, options.calibration, options.windows):
        print(f"{outs[size]}: {facts['params']:,} parameters, {facts['fraction']:.4f} of the parent, {facts['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
