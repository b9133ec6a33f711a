"""A 7B model on a machine of 24 GB: in bfloat16, on the CPU. Memory against the plan, tokens a second, seconds a network.

    python3 scripts/bench/large_model.py --criadero target/release/criadero --work DIR

Writes 13.5 GB of seeded random weights under --work (once), scores the whole model on a few ARC-Easy questions, and searches a space
on as many, killed once and resumed. Its tokenizer is one of single bytes, so that a question has four times the usual tokens. Peak
memory is the largest resident set that the kernel saw; the plan's is for the same chunks. Results go to --out.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "gpu"))

from large_checkpoint import peak_of


def run(options, name, *arguments, kill_when=lambda: False):
    """A command's time, peak memory and output; killed as soon as `kill_when` holds."""
    command = [str(part) for part in [options.criadero, *arguments]]
    start, peak, killed = time.monotonic(), 0, False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, peak_of(process))
            if not killed and kill_when():
                killed = True
                process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        said = process.stdout.read()
    if process.returncode != (-signal.SIGKILL if killed else 0):
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    seconds = time.monotonic() - start
    print(f"{name:<44} {seconds:9.1f} s {peak / 1e9:8.2f} GB", flush=True)
    return seconds, peak, said


def planned(options, *arguments):
    """Peak bytes by kind of work."""
    command = [options.criadero, "plan", *arguments, "--json"]
    plan = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {row["work"]: row["peak_bytes"] for row in plan["work"]}


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--shape", default="llama2-7b")
    parser.add_argument("--space", default="llama2-7b-llama-nas")
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--held-out", type=int, default=4)
    parser.add_argument("--evals", type=int, default=24)
    parser.add_argument("--chunk-tokens", default="1024")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/bench-7b"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    model, arithmetic = options.work / options.shape, ["--arithmetic", "bf16"]
    if not (model / "config.json").is_file():
        run(options, "write the checkpoint", "synthesize", "--shape", options.shape, "--out", model)
    chunks = ["--chunk-tokens", options.chunk_tokens]
    cache = ["--cache", "512"]
    plan = planned(options, str(model), "--space", options.space, *chunks, *cache, "--workers", "1", *arithmetic)
    rows = []

    task = ["--task", options.task, "--limit", str(options.questions), *chunks]
    seconds, peak, said = run(options, "eval", "eval", model, *task, *arithmetic, "--json")
    scored = json.loads(said)
    rate = scored["packed_tokens"] / scored["seconds"]
    rows.append(["eval", seconds, peak, plan["eval"], f"{scored['packed_tokens']} tokens, {rate:.0f} a second"])

    out = options.work / f"search-{options.space}"
    search = ["search", options.space, "--model", model, "--objective", f"choice_nll:{options.task}", "--objective", "params",
              "--evals", str(options.evals), "--population", str(options.evals // 3), "--limit", str(options.questions),
              "--held-out", str(options.held_out), "--workers", "1", "--out", out, *chunks, *cache, *arithmetic]
    log = out / "chunks.log"
    fresh = not log.is_file()
    half = (lambda: lines_of(log) >= options.evals) if fresh else (lambda: False)
    seconds, peak, _ = run(options, "search, killed on the way", *search, kill_when=half)
    kept = lines_of(log)
    rows.append(["search, killed", seconds, peak, plan["search"], f"{kept} partial scores kept"])
    seconds, peak, _ = run(options, "search, resumed to its end", *search)
    networks = sum(1 for _ in csv.reader((out / "evaluations.csv").open())) - 1
    timings = list(csv.DictReader((out / "timings.csv").open()))
    searching = [row for row in timings[:-1]]
    each = sum(float(row["seconds"]) for row in searching) / max(1, sum(int(row["networks"]) for row in searching))
    rows.append(["search, resumed", seconds, peak, plan["search"],
                 f"{networks} networks, {each:.1f} s each in populations that one process scored; front in float32: "
                 f"{timings[-1]['networks']} networks, {float(timings[-1]['seconds']):.0f} s"])
    assert (out / "front.json").is_file(), f"{out} has no front"

    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    lines = [f"{options.shape} in bfloat16, {options.questions} questions of {options.task}, space {options.space}, chunks of {options.chunk_tokens}",
             f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} x {cpu}, {memory:.1f} GB, {platform.system()}; {subprocess.run([options.criadero, '--version'], capture_output=True, text=True).stdout.strip()}"]
    for name, seconds, peak, wanted, what in rows:
        lines.append(f"{name:<16} {seconds:8.1f} s, peak {peak / 1e9:.2f} GB, planned {wanted / 1e9:.2f} GB ({peak / wanted:.2f}): {what}")
    (options.out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (options.out / "runs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", "seconds", "peak_bytes", "planned_bytes", "what"], *rows])
    print("\n".join(lines))


if __name__ == "__main__":
    main()
