"""Peak memory that `criadero plan` predicts, against what the process takes.

    python3 scripts/bench/plan_memory.py --criadero target/release/criadero --model SUPERNET --data TEXT

Anonymous resident memory of the whole process, read from /proc every few milliseconds, less that of an idle one that has
loaded libtorch and nothing else. Some steps of every kind of training are enough: each allocates as the one before. Writes
memory.csv to --out.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

from arms import write_csv
from machine import processor

SAMPLE_SECONDS = 0.003
#: Name in the plan, sequences, flags of `criadero tune`.
TRAININGS = [
    ("tune, instatune", 1, "--scheme instatune"),
    ("tune, instatune", 2, "--scheme instatune"),
    ("tune, instatune", 4, "--scheme instatune"),
    ("tune, sandwich", 1, "--scheme sandwich"),
    ("tune, sandwich, recompute", 4, "--scheme sandwich --recompute"),
    ("tune, sandwich, LoRA", 2, "--scheme sandwich --lora 16"),
]


def anonymous(pid):
    """Bytes, or 0 when the process has gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def peak(command):
    """The most anonymous memory that a command held."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=said)
        most = 0
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(SAMPLE_SECONDS)
        if process.returncode != 0:
            said.seek(0)
            raise SystemExit(f"{command}: {said.read().decode()}")
    return most


def plan(options, sequences):
    command = [options.criadero, "plan", options.model, "--space", options.space, "--length", options.length, "--json"]
    command += ["--batch", sequences, "--chunk-tokens", options.chunk_tokens]
    found = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    return {row["work"]: row["peak_bytes"] for row in json.loads(found)["work"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, help="text for `criadero tune`")
    parser.add_argument("--space", default="smollm2-135m")
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--chunk-tokens", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/bench-plan"))
    options = parser.parse_args()

    idle = peak([options.criadero, "plan", options.model])
    rows = []

    def compare(work, sequences, command):
        predicted, measured = plan(options, sequences)[work], peak(command) - idle
        rows.append({"work": work, "sequences": sequences, "predicted_mib": round(predicted / 2**20, 1),
                     "measured_mib": round(measured / 2**20, 1), "error": round(predicted / measured - 1, 4)})
        print(rows[-1], flush=True)

    scoring = [options.criadero, "eval", options.model, "--task", options.task, "--limit", 40, "--chunk-tokens", options.chunk_tokens]
    compare("eval", 1, scoring)
    for work, sequences, flags in TRAININGS:
        with tempfile.TemporaryDirectory() as out:
            command = [options.criadero, "tune", options.model, "--space", options.space, "--data", options.data, "--out", out]
            command += ["--length", options.length, "--batch", sequences, "--steps", options.steps, "--warmup", 1]
            command += ["--measure-every", options.steps, "--held-out-sequences", 1, *flags.split()]
            compare(work, sequences, command)
    write_csv(options.out / "memory.csv", rows)
    version = subprocess.run([options.criadero, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    text = f"{time.strftime('%Y-%m-%d')}, {processor()}, {version}; an idle process holds {idle / 2**20:.1f} MiB\n"
    (options.out / "summary.txt").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
