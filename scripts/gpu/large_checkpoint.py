"""A 7B checkpoint from writing to searching: time and memory of `synthesize`, of loading, and of searches over two spaces.

    python3 scripts/gpu/large_checkpoint.py --criadero target/release/criadero --work DIR [--device cuda]

Writes 13.5 GB of seeded weights under --work (once), scores one network on a few made-up questions, which is mostly loading, and
runs a search end to end over each space. Prints a table and writes large-checkpoint.json to --out. Peak memory is that of the
process on the host.
"""

import argparse
import json
import pathlib
import random
import subprocess
import time

WORDS = "river stone paper green seven cloud table music north little winter glass bread sharp quiet lamp".split()


def questions(file, count):
    """Questions with four choices, about 60 tokens of single bytes each: random weights know no answer anyway."""
    draw = random.Random(1)
    words = lambda n: " ".join(draw.choice(WORDS) for _ in range(n))
    lines = [{"context": f"Question: {words(4)}?\nAnswer:", "choices": [f" {words(1)}" for _ in range(4)], "gold": draw.randrange(4)}
             for _ in range(count)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def peak_of(process):
    """Largest resident set that the kernel has seen, bytes, asked while the process is there."""
    try:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0


def run(options, name, *arguments):
    command = [str(part) for part in [options.criadero, *arguments]]
    start, peak = time.monotonic(), 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            peak = max(peak, peak_of(process))
            time.sleep(0.05)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    row = {"step": name, "seconds": time.monotonic() - start, "peak_bytes": peak}
    print(f"{name:<44} {row['seconds']:9.1f} s {peak / 1e9:8.2f} GB", flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--shape", default="llama2-7b")
    parser.add_argument("--spaces", nargs="+", default=["llama2-7b-llama-nas", "llama2-7b"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--evals", type=int, default=32)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/gpu-check"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    task, model = options.work / "questions.jsonl", options.work / options.shape
    questions(task, options.questions)
    rows = []
    if not (model / "config.json").is_file():
        rows.append(run(options, "write the checkpoint", "synthesize", "--shape", options.shape, "--out", model))
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    rows.append(run(options, f"load {size / 1e9:.1f} GB and score one question", "eval", model, "--task", task, "--limit", 1, "--device", options.device))
    for space in options.spaces:
        out = options.work / f"search-{space}"
        rows.append(run(options, f"search {space}", "search", space, "--model", model, "--objective", f"choice_nll:{task}", "--objective", "params",
                        "--evals", options.evals, "--population", max(4, options.evals // 4), "--held-out", 8, "--device", options.device,
                        "--out", out))
        assert (out / "front.json").is_file(), f"{out} has no front"
    (options.out / "large-checkpoint.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
