"""Fine-tuning steps of criadero beside transformers in PyTorch, turn by turn: tokens a second and memory.

    python3 scripts/bench/tune_peer.py --model SUPERNET --criadero target/release/criadero --ours "FLAGS" [--ours lora="FLAGS"]...

Theirs is torch_trainer.py in each of --modes. Ours is `criadero tune FLAGS --steps N --out DIR`, where FLAGS says everything else
and {model}, {batch} and {length} in it stand for what theirs gets; MODE= before FLAGS names the mode that it is compared with, `full`
where nothing is said. Without --ours only theirs is timed.

Every run is a process of its own, and a round has one run of each, so that all see the same machine; leave it alone meanwhile. A run's
first step touches its memory for the first time and is not counted. Writes runs.csv (tokens a second of every step, their median,
the most memory that the process held, which AdamW was the faster) as the runs end, and summary.txt, to --out.

Needs torch and transformers for theirs.
"""

import argparse
import csv
import json
import os
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import time

from machine import processor

MODES = ["full", "full-checkpointed", "full-bf16", "lora", "lora-checkpointed"]
THEIRS, OURS = "transformers", "criadero"


def run(command):
    """Runs it to its end and returns the most memory that it held, in MB."""
    command = [str(part) for part in command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode} from: {shlex.join(command)}")
    return usage.ru_maxrss * 1024 / 1e6


def tokens_per_second(out):
    """Of every step but the first."""
    with open(out / "timings.csv", newline="", encoding="utf-8") as file:
        return [float(row["tokens_per_second"]) for row in csv.DictReader(file)][1:]


def theirs(options, mode, batch, length):
    out = options.work / "theirs"
    trainer = pathlib.Path(__file__).with_name("torch_trainer.py")
    command = [sys.executable, trainer, "--model", options.model, "--mode", mode, "--batch", batch, "--length", length]
    memory = run([*command, "--steps", options.steps + 1, "--out", out])
    return tokens_per_second(out), memory, json.loads((out / "settings.json").read_text(encoding="utf-8"))


def ours(options, flags, batch, length):
    out = options.work / "ours"
    shutil.rmtree(out, ignore_errors=True)
    filled = {"{model}": str(options.model), "{batch}": str(batch), "{length}": str(length)}
    parts = shlex.split(flags)
    for name, value in filled.items():
        parts = [part.replace(name, value) for part in parts]
    memory = run([options.criadero, "tune", *parts, "--steps", options.steps + 1, "--out", out])
    return tokens_per_second(out), memory, {}


def measure(options):
    """Yields a row a run."""
    arms = [(THEIRS, mode, None) for mode in options.modes] + [(OURS, mode, flags) for mode, flags in options.ours]
    for batch, length in zip(options.batch, options.length, strict=True):
        for turn in range(1, options.rounds + 1):
            for side, mode, flags in arms:
                timed = theirs(options, mode, batch, length) if side == THEIRS else ours(options, flags, batch, length)
                speeds, memory, settings = timed
                if len(speeds) != options.steps:
                    raise SystemExit(f"{side}, {mode}: {len(speeds)} steps in timings.csv after the first, expected {options.steps}")
                row = {"side": side, "mode": mode, "batch": batch, "length": length, "round": turn}
                versions = "; ".join(f"{name} {settings[name]}" for name in ["torch", "transformers"] if name in settings)
                row |= {"versions": versions, "adamw": settings.get("optimiser", "")}
                row |= {f"step_{step}": round(speed, 2) for step, speed in enumerate(speeds, 1)}
                yield row | {"median": round(statistics.median(speeds), 2), "peak_mb": round(memory)}


def summary(options, rows):
    lines = [
        f"{options.model.name}, float32 unless a mode says bf16, rounds {options.rounds}, steps {options.steps}; tokens a second, median over all steps",
        f"{time.strftime('%Y-%m-%d')}, {processor()}, {rows[0]['versions']}",
    ]
    for batch, length in zip(options.batch, options.length):
        for mode in MODES:
            here = [row for row in rows if (row["mode"], row["batch"], row["length"]) == (mode, batch, length)]
            sides = {side: [row for row in here if row["side"] == side] for side in [THEIRS, OURS]}
            speed = lambda side: statistics.median(row[f"step_{step}"] for row in sides[side] for step in range(1, options.steps + 1))
            parts = [f"{side} {speed(side):.1f} ({max(row['peak_mb'] for row in of):,} MB)" for side, of in sides.items() if of]
            if all(sides.values()):
                turns = [mine["median"] / other["median"] for mine, other in zip(sides[OURS], sides[THEIRS], strict=True)]
                ratio = speed(OURS) / speed(THEIRS)
                parts.append(f"ratio {ratio:.2f}, round by round {', '.join(f'{turn:.2f}' for turn in turns)}")
            if parts:
                lines.append(f"{mode}, {batch} x {length}: {'; '.join(parts)}")
    return "\n".join(lines) + "\n"


def arm(text):
    mode, separator, flags = text.partition("=")
    if separator and mode in MODES:
        return mode, flags
    if text.startswith("-"):
        return "full", text
    raise argparse.ArgumentTypeError(f'`{text}` is neither "FLAGS" nor MODE="FLAGS" with one of {", ".join(MODES)}')


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=pathlib.Path, help="the supernet, a Hugging Face directory")
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--ours", type=arm, action="append", default=[], help='[MODE=]"FLAGS" of `criadero tune`; one a mode')
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["full", "full-checkpointed", "lora"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="sequences a step, one number for each --length")
    parser.add_argument("--length", type=int, nargs="+", default=[1024, 256], help="tokens a sequence, one number for each --batch")
    parser.add_argument("--steps", type=int, default=4, help="counted steps a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("results/runs-bench-tune"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/bench-tune"))
    options = parser.parse_args()
    if len(options.batch) != len(options.length):
        parser.error(f"{len(options.batch)} numbers for --batch, {len(options.length)} for --length; they go together in pairs")
    modes = [mode for mode, _ in options.ours]
    if len(set(modes)) != len(modes):
        parser.error(f"--ours is given for {', '.join(modes)}; once for each mode")
    return options


def main():
    options = parse()
    if os.getloadavg()[0] > 0.5:
        print(f"note: the machine is busy (load {os.getloadavg()[0]:.1f}); what is timed now is no use", flush=True)
    rows = []
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "runs.csv", "w", newline="", encoding="utf-8") as file:
        for row in measure(options):
            if not rows:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            rows.append(row)
            print(row, flush=True)
    text = summary(options, rows)
    (options.out / "summary.txt").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
