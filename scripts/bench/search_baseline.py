"""NSGA-II against random search at equal evaluations: held-out hypervolume of the fronts over several seeds.

    python3 scripts/bench/search_baseline.py --criadero target/release/criadero --model SUPERNET [--out DIR]

Both searches get the same first population, items and number of evaluations. Every run keeps its directory under
--work and is resumed or reused when the script is started again; a table of all runs and a summary go to --out.
"""

import argparse
import csv
import json
import pathlib
import platform
import statistics
import subprocess
import time

FIELDS = ["algorithm", "seed", "evaluations", "points", "hypervolume", "seconds"]


def search(options, algorithm, seed):
    out = options.work / f"{algorithm}-{seed}"
    command = [options.criadero, "search", options.space, "--model", options.model, "--algorithm", algorithm]
    command += ["--objective", f"choice_nll:{options.task}", "--objective", "params", "--seed", str(seed)]
    command += ["--evals", str(options.evals), "--population", str(options.population)]
    command += ["--limit", str(options.limit), "--held-out", str(options.held_out), "--out", str(out)]
    # The same sums on both sides: a division measured anew may differ.
    command += ["--chunk-tokens", "512", "--workers", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    front = json.loads((out / "front.json").read_text())
    with open(out / "timings.csv", newline="", encoding="utf-8") as file:
        # Of a run that was repeated, the first measurement of each population counts.
        seconds = {row["population"]: float(row["seconds"]) for row in reversed(list(csv.DictReader(file)))}
    values = [algorithm, seed, front["evaluations"], len(front["points"]), front["hypervolume"], round(sum(seconds.values()), 1)]
    return dict(zip(FIELDS, values))


def processor():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True, help="the ranked supernet")
    parser.add_argument("--space", default="smollm2-135m")
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--evals", type=int, default=64)
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("results/runs-baseline"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/bench-baseline"))
    options = parser.parse_args()

    rows = []
    for seed in options.seeds:
        for algorithm in ["nsga2", "random"]:
            rows.append(search(options, algorithm, seed))
            print(rows[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "runs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)

    lines = [
        f"{options.evals} evaluations, population {options.population}, {options.limit} search items and "
        f"{options.held_out} held-out items of {options.task}, space {options.space}, seeds {options.seeds}",
        f"{time.strftime('%Y-%m-%d')}, {processor()}",
    ]
    by_seed = {name: {row["seed"]: row["hypervolume"] for row in rows if row["algorithm"] == name} for name in ["nsga2", "random"]}
    for name, values in by_seed.items():
        spread = statistics.stdev(values.values()) if len(values) > 1 else 0.0
        lines.append(f"{name:7} held-out hypervolume {statistics.mean(values.values()):.4f} +- {spread:.4f} (sample deviation over seeds)")
    paired = [by_seed["nsga2"][seed] - by_seed["random"][seed] for seed in options.seeds]
    lines.append(f"nsga2 - random, seed by seed: {', '.join(f'{value:+.4f}' for value in paired)}")
    (options.out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
