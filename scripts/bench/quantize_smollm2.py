"""Bits as genes on SmolLM2-135M: searched fronts at 16, 8 and 4 bits, at Q4_1, and with the bits of each layer searched too.

    python3 scripts/bench/quantize_smollm2.py --criadero target/release/criadero --model TUNED_SUPERNET

The five searches have the same widths, items, seeds and number of evaluations, and minimise choice_nll and weight_bytes.
Uniform fronts store the embedding as their layers; the mixture chooses bits for both (8 at most for the embedding), and
it begins with the front of one of them, --begin, so that behind it stand twice as many evaluations as behind any of them. Then the 16-bit fronts are scored again
after quantization (`criadero quantize`), and networks of every front are exported: is the file as large as weight_bytes says?

Writes fronts.csv, files.csv, summary.txt and fronts.png to --out, and of each re-scored front quantized.csv and .png. Runs stay
under --work, and the same command again measures only what is missing.

Needs PyYAML and matplotlib.
"""

import argparse
import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from arms import write_csv
from machine import processor

FORMATS = ["16", "8", "4", "q4_1"]
MIXED = "mixed"
COLORS = {"16": "#8a8a8a", "8": "#1f6fb4", "4": "#c44e00", "q4_1": "#8a4fa3", MIXED: "#0a8a5a"}
NAMES = {"16": "16 bits", "8": "8 bits (Q8_0)", "4": "4 bits (Q4_0)", "q4_1": "Q4_1", MIXED: "searched bits of each layer"}
REFERENCE_SHARE = 1.05


def run(options, *arguments):
    command = [str(part) for part in [options.criadero, *arguments]]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def space(options, bits):
    """The shipped space of mixed bits, or the same widths with everything in one format."""
    shipped = options.spaces / "smollm2-135m-mixed.yaml"
    if bits == MIXED:
        return shipped
    lines = []
    for line in shipped.read_text(encoding="utf-8").splitlines():
        line = f"bits: [{bits}]" if line.startswith("bits:") else line
        lines.append(f"embedding_bits: {bits}" if line.startswith("embedding_bits:") else line)
    path = options.work / f"space-{bits}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def searched(options, bits, seed):
    """A finished search is not repeated, and one with other settings is refused, both by `criadero search` itself."""
    out = options.work / f"{bits}-{seed}"
    begin = ["--seed-genomes", options.work / f"{options.begin}-{seed}"] if bits == MIXED and options.begin else []
    run(options, "search", space(options, bits), "--model", options.model, "--objective", f"choice_nll:{options.task}",
        "--objective", "weight_bytes", "--evals", options.evals, "--population", options.population, "--limit", options.limit,
        "--held-out", options.held_out, "--seed", seed, "--chunk-tokens", 512, "--workers", 1, "--out", out, *begin)
    return out, json.loads((out / "front.json").read_text(encoding="utf-8"))


def scored_again(options, bits, run_dir, front):
    """The front in these bits; what is there already counts if it is of the same networks and items."""
    out = options.work / f"again-{bits}"
    file = out / "quantized.json"
    read = lambda: json.loads(file.read_text(encoding="utf-8"))
    networks = sorted((point["id"], point["values"]["weight_bytes"]) for point in front["points"])
    fits = lambda again: (again["mean"][0]["items"] == options.again
                          and sorted((point["id"], point["bytes_before"]) for point in again["points"]) == networks)
    if not (file.is_file() and fits(read())):
        run(options, "quantize", run_dir, "--bits", bits, "--held-out", options.again, "--out", out)
    run(options, "plot", out)
    return out, read()


def score(point, prefix):
    return next(held for held in point["held_out"] if held["name"].startswith(prefix))


def front_rows(bits, seed, front):
    rows = []
    for point in front["points"]:
        accuracy, nll = score(point, "accuracy:"), score(point, "choice_nll:")
        rows.append({"bits": bits, "seed": seed, "id": point["id"], "network": point["genome"], "weight_bytes": point["values"]["weight_bytes"],
                     "params": point["values"]["params"], "search_nll": point["values"][nll["name"]], "held_out_nll": nll["value"],
                     "nll_stderr": nll["stderr"], "held_out_accuracy": accuracy["value"], "stderr": accuracy["stderr"]})
    return rows


def hypervolume(rows, reference_bytes, chance):
    """Held-out accuracy and bytes, normalised as `criadero search` does: reference (chance, 1.05 x the 16-bit parent)."""
    points = sorted((row["weight_bytes"] / reference_bytes, (1 - row["held_out_accuracy"]) / (1 - chance)) for row in rows)
    volume, best = 0.0, 1.0
    for size, loss in points:
        if size < 1 and loss < best:
            volume += (1 - size) * (best - loss)
            best = loss
    return volume


def at_equal_bytes(mixed, uniform):
    """For each uniform point that a mixture undercuts: the mixture's best one by search score, less the uniform one."""
    differences = []
    for one in uniform:
        within = [other for other in mixed if other["weight_bytes"] <= one["weight_bytes"]]
        if within:
            best = min(within, key=lambda other: other["search_nll"])
            # Both were scored on the same items, so this error is too large where they answer alike.
            differences.append((best["held_out_accuracy"] - one["held_out_accuracy"], math.hypot(best["stderr"], one["stderr"]),
                                best["held_out_nll"] - one["held_out_nll"], math.hypot(best["nll_stderr"], one["nll_stderr"])))
    return differences


def files(options, runs):
    """The smallest, a middle and the largest network of each front, as GGUF."""
    rows = []
    for bits, (out, front) in runs.items():
        points = front["points"]
        for point in {point["id"]: point for point in [points[0], points[len(points) // 2], points[-1]]}.values():
            file = options.work / f"file-{bits}-{point['id']}.gguf"
            said = run(options, "export", out, "--pick", point["id"], "--format", "gguf", "--out", file)
            tensors = int(re.search(r"(\d+) bytes of tensors", said)[1])
            rows.append({"bits": bits, "id": point["id"], "weight_bytes": point["values"]["weight_bytes"], "tensor_bytes": tensors,
                         "file_bytes": file.stat().st_size})
            file.unlink()
    return rows


def draw(options, rows, parent):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9.5, 6), layout="constrained")
    for bits in [*FORMATS, MIXED]:
        chosen = sorted((row for row in rows if row["bits"] == bits), key=lambda row: row["weight_bytes"])
        axes.errorbar([row["weight_bytes"] / 1e6 for row in chosen], [row["held_out_accuracy"] for row in chosen],
                      yerr=[row["stderr"] for row in chosen], fmt="o", color=COLORS[bits], ecolor=COLORS[bits], alpha=0.8, markersize=4,
                      elinewidth=0.6, label=NAMES[bits])
    axes.errorbar([parent["values"]["weight_bytes"] / 1e6], [score(parent, "accuracy:")["value"]], fmt="D", color="black", markersize=6,
                  label="parent, 16 bits")
    axes.set_xlabel("bytes of the weights, MB (GGUF)")
    axes.set_ylabel(f"held-out accuracy on {options.task}, with standard error")
    axes.set_title(f"Fronts by bits, seeds {', '.join(map(str, options.seeds))}; weights of the packaged Q4_1 model, {options.base}", loc="left",
                   fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(options.out / "fronts.png", dpi=150)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="the supernet, unquantized: fine-tuned if there is one")
    parser.add_argument("--spaces", type=pathlib.Path, default=pathlib.Path("search-spaces"))
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--evals", type=int, default=128)
    parser.add_argument("--begin", choices=FORMATS, default="4", help="format of the front that the mixture begins with")
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--again", type=int, default=200, help="held-out items on which the 16-bit front is scored again")
    parser.add_argument("--again-bits", nargs="+", default=FORMATS[1:], help="formats in which it is scored again")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("results/runs-quantize-smollm2"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/quantize-smollm2"))
    options = parser.parse_args()
    options.base = "fine-tuned in float32" if (options.model / "tune.json").is_file() else "ranked only"
    return options


def main():
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    lines = [f"{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} threads, {run(options, '--version').strip()}",
             f"{options.evals} evaluations of each space, {options.limit} questions to search on, {options.held_out} held out; the mixture "
             f"begins with the front of {NAMES[options.begin]}",
             f"base: {options.base}; it began as the packaged SmolLM2-135M-Instruct, which is Q4_1 itself: 16 bits mean those weights"]
    runs = {(bits, seed): searched(options, bits, seed) for seed in options.seeds for bits in [*FORMATS, MIXED]}
    rows = [row for (bits, seed), (_, front) in runs.items() for row in front_rows(bits, seed, front)]
    write_csv(options.out / "fronts.csv", rows)
    whole = runs["16", options.seeds[0]][1]
    reference, chance = REFERENCE_SHARE * whole["parent"]["values"]["weight_bytes"], whole["chance"][0]
    draw(options, rows, whole["parent"])
    lines += ["", f"Held-out hypervolume of accuracy and bytes, reference chance and 1.05 x the 16-bit parent: seeds {options.seeds}"]
    for bits in [*FORMATS, MIXED]:
        volumes = [hypervolume([row for row in rows if (row["bits"], row["seed"]) == (bits, seed)], reference, chance) for seed in options.seeds]
        lines.append(f"  {NAMES[bits]}: {', '.join(f'{volume:.4f}' for volume in volumes)}, mean {statistics.mean(volumes):.4f}")
    lines += ["", "Searched bits less uniform ones at equal bytes or fewer, chosen by search score, held-out:"]
    for bits in FORMATS:
        differences = [one for seed in options.seeds for one in at_equal_bytes(
            [row for row in rows if (row["bits"], row["seed"]) == (MIXED, seed)],
            [row for row in rows if (row["bits"], row["seed"]) == (bits, seed)])]
        if not differences:
            lines.append(f"  {NAMES[bits]}: no mixture is as small as its networks")
            continue
        below = sum(accuracy < -error for accuracy, error, _, _ in differences)
        lines.append(f"  {NAMES[bits]}: accuracy {statistics.mean(one[0] for one in differences):+.3f} on the mean of {len(differences)} "
                     f"networks, choice_nll {statistics.mean(one[2] for one in differences):+.3f}; more than one standard error below in {below}")
    lines += ["", f"The 16-bit front of seed {options.seeds[0]} scored again on {options.again} held-out items"]
    for bits in options.again_bits:
        out, again = scored_again(options, bits, *runs["16", options.seeds[0]])
        for file in ["quantized.csv", "quantized.png"]:
            shutil.copy(out / file, options.out / f"{file.split('.')[0]}-{bits}.{file.split('.')[1]}")
        mean = again["mean"][0]
        share = sum(point["bytes"] for point in again["points"]) / sum(point["bytes_before"] for point in again["points"])
        lines.append(f"  {NAMES[bits]}: {100 * mean['change']:+.2f} ± {100 * mean['change_stderr']:.2f} points of accuracy on the mean of "
                     f"{len(again['points'])} networks, {100 * share:.1f} % of the bytes")
    held = files(options, {bits: runs[bits, options.seeds[0]] for bits in [*FORMATS, MIXED]})
    write_csv(options.out / "files.csv", held)
    most = max(row["file_bytes"] - row["weight_bytes"] for row in held)
    equal = all(row["weight_bytes"] == row["tensor_bytes"] for row in held)
    lines += ["", f"{len(held)} files: tensor bytes {'equal' if equal else 'DIFFER FROM'} weight_bytes; header, vocabulary and padding are at most "
              f"{most / 1e6:.2f} MB more"]
    text = "\n".join(lines) + "\n"
    (options.out / "summary.txt").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
