"""Do other runtimes compute what is exported of every family, and under every kind of rotary scaling?

    python3 scripts/parity/families.py --criadero target/release/criadero [--out FILE]

Exports networks of the tiny models in tests/goldens in every format: uniform ones, and ones whose layers differ or lack a half.
The reference is transformers on the hf-padded export: the family's own class, no code of ours. Needs torch and transformers in
this Python, and node-llama-cpp in NODE_MODULES (or beside where this runs). With windows llama.cpp gets no more tokens than
the window is wide, as its architectures know none. Exits with 1 when a log-probability differs by more than the tolerance.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

import torch
from runtimes import TOLERANCE, with_llama_cpp, with_transformers

GOLDENS = pathlib.Path(__file__).parent.parent.parent / "tests" / "goldens"
GENOMES = ["4x64*3", "2x16*3", "2x32:4x16:4x64", "-:2x32:4x0", "0x32:4x16:4x0"]
WINDOWS = {"mistral-window": 7, "qwen2-window": 5}
#: Networks of this model fit no architecture of llama.cpp, and the exporter says so.
NO_GGUF = {"qwen3-biases"}
TOKENS = [(place * place * 7 + 11 * place + 5) % 260 for place in range(24)]


def models(work):
    """Directories of the families' models with their tokenizer, and of the tiny LLaMA under every rotary scaling."""
    families = GOLDENS / "families"
    for source in sorted(path for path in families.iterdir() if path.is_dir()):
        directory = work / source.name
        directory.mkdir()
        for file in [source / "config.json", source / "model.safetensors", families / "tokenizer.json"]:
            shutil.copy(file, directory)
        yield source.name, directory, GENOMES, TOKENS
    rope = json.loads((families / "rope.json").read_text())
    for place, case in enumerate(rope["cases"]):
        directory = work / f"rope-{place}"
        shutil.copytree(GOLDENS / "tiny-llama", directory)
        config = json.loads((directory / "config.json").read_text())
        config.pop("rope_parameters", None)
        config |= {"rope_theta": 10000.0, "rope_scaling": case["rope_scaling"]}
        config["max_position_embeddings"] = case["max_position_embeddings"]
        (directory / "config.json").write_text(json.dumps(config))
        yield f"llama, rope {case['name']}", directory, ["4x128*4", "4x128:2x64*3"], rope["tokens"]


def export(criadero, model, genome, form, out):
    shutil.rmtree(out, ignore_errors=True)
    command = [criadero, "export", model, f"--genome={genome}", "--format", form, "--out", out, "--dtype", "f32"]
    result = subprocess.run(command, capture_output=True, text=True)
    return None if result.returncode == 0 else result.stderr.strip()


def largest(found, expected):
    return max(abs(a - b) for a, b in zip(found, expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--out", type=pathlib.Path, help="file for what is printed")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    said, failed = [], []

    def say(line):
        print(line, flush=True)
        said.append(line)

    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        say(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}; largest difference of a log-probability to hf-padded, at most {TOLERANCE}\n")
        say(f"{'model':34} {'genome':18} {'hf':>10} {'class':22} {'gguf':>10} runtimes")
        for name, model, genomes, tokens in models(work):
            for genome in genomes:
                out = {form: work / "out" / form for form in ["hf-padded", "hf", "gguf"]}
                refusals = {form: export(arguments.criadero, model, genome, form, path) for form, path in out.items()}
                _, reference, padded = with_transformers(out["hf-padded"], tokens=tokens)
                _, found, runtime = with_transformers(out["hf"], tokens=tokens)
                own = largest(found, reference)
                few = tokens[: WINDOWS.get(name, len(tokens))]
                if refusals["gguf"] is None:
                    _, found, llama_cpp = with_llama_cpp(out["gguf"] / "model.gguf", "the cat", few, work)
                    cpp = largest(found, reference)
                    shown, good = f"{cpp:10.1e}", cpp <= TOLERANCE
                else:
                    llama_cpp, shown, good = "refused by name", f"{'-':>10}", name in NO_GGUF and "llama.cpp" in refusals["gguf"]
                good &= own <= TOLERANCE
                failed += [] if good else [(name, genome)]
                kind = runtime.split()[-1]
                say(f"{name:34} {genome:18} {own:10.1e} {kind:22} {shown} {padded.rsplit(' ', 1)[0]}, {llama_cpp}{'' if good else '  FAILED'}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("\n".join(said) + "\n", encoding="utf-8")
    sys.exit(1 if failed else 0)


main()
