"""What one-shot fine-tuning gives SmolLM2-135M: perplexity of fixed networks and the searched front, before and after.

    python3 scripts/bench/tune_smollm2.py --criadero target/release/criadero --model SUPERNET [--arm NAME="FLAGS"]...

An arm is `criadero tune` with FLAGS on the passages of the calibration text (CoQA and SQuAD, which no shipped task scores).
One passage in 20, by the SHA-256 of its text, is never trained on: perplexity is measured on those, run together as one text in
windows of 512 tokens (the curves of an arm are of other held-out passages, each for itself, as they are trained), of 16 random networks of
the space (fixed by a seed) and of the parent. Then the same search runs on the ranked supernet and on the arm whose networks
have the lowest perplexity while its parent is at most 2 % worse: same space, items, seeds and evaluations; hypervolumes have the
same reference point, chance and 1.05 x the parent's size.

Writes perplexity.csv, fronts.csv, summary.txt and fronts.png to --out, and of every arm metrics.csv and curve.png. Runs stay
under --work, and the same command again measures only what is missing.

Needs PyYAML and matplotlib.
"""

import argparse
import csv
import hashlib
import json
import math
import os
import pathlib
import random
import shlex
import shutil
import statistics
import subprocess
import time

from arms import arm_but, write_csv
from machine import processor
from search_space import SearchSpace

HELD_OUT_SHARE = 20
NETWORKS = 16
#: A tuned parent may be this much worse.
MOST_PARENT = 1.02
BEFORE = "ranked"


def passages(options):
    """The training file and the held-out text, written once."""
    train, held_out = options.work / "train.jsonl", options.work / "held-out.txt"
    if not (train.is_file() and held_out.is_file()):
        texts = [text for text in options.text.read_text(encoding="utf-8").split("\n\n") if text.strip()]
        left_out = lambda text: int(hashlib.sha256(text.encode()).hexdigest(), 16) % HELD_OUT_SHARE == 0
        kept, characters = [], 0
        for text in filter(left_out, texts):
            if characters < options.characters:
                kept.append(text.strip())
                characters += len(text)
        options.work.mkdir(parents=True, exist_ok=True)
        held_out.write_text("\n\n".join(kept) + "\n", encoding="utf-8")
        lines = [json.dumps({"text": text.strip()}, ensure_ascii=False) for text in texts if not left_out(text)]
        train.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return train, held_out


def networks(options):
    """The parent, then random networks: every choice of the space alike."""
    space = SearchSpace(options.space, options.model)
    generator = random.Random(20)
    draw = lambda: space.genome([generator.randint(0, upper) for upper in space.upper])
    path = options.work / "networks.txt"
    path.write_text("\n".join([space.parent()] + [draw() for _ in range(NETWORKS)]) + "\n", encoding="utf-8")
    return path


def run(options, *arguments, out=subprocess.PIPE):
    command = [str(part) for part in [options.criadero, *arguments]]
    return subprocess.run(command, check=True, stdout=out, text=True).stdout


def tuned(options, name, flags, train):
    """The fine-tuned supernet of an arm, and its hours of training."""
    out = options.work / name
    run(options, "tune", options.model, "--space", options.space, "--data", train, "--out", out, *shlex.split(flags), out=subprocess.DEVNULL)
    for file in ["metrics.csv", "curve.png"]:
        shutil.copy(out / file, options.out / f"{name}-{file}")
    with open(out / "timings.csv", newline="", encoding="utf-8") as file:
        return out, sum(float(row["seconds"]) for row in csv.DictReader(file)) / 3600


def tokens(options):
    """Of the held-out text."""
    first = (options.work / f"perplexity-{BEFORE}.jsonl").read_text(encoding="utf-8").splitlines()[0]
    return json.loads(first)["naive_tokens"]


def perplexities(options, name, model, held_out):
    """Of the parent, then of the other networks, on the held-out text in windows of 512 tokens."""
    path = options.work / f"perplexity-{name}.jsonl"
    if not path.is_file():
        found = run(options, "eval", model, "--task", held_out, "--genomes", networks(options), "--max-length", 512, "--json")
        path.write_text(found, encoding="utf-8")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == NETWORKS + 1, f"{path}: {len(rows)} networks"
    return [{"supernet": name, "network": row["genome"], "perplexity": row["perplexity"]} for row in rows]


def apart(options, name, model, held_out):
    """Nats of the held-out passages, each for itself behind its first word, for the parent."""
    path = options.work / f"apart-{name}.json"
    if not path.is_file():
        task, rows = options.work / "held-out.jsonl", options.work / "apart-rows.jsonl"
        words = [text.strip().split(" ", 1) for text in held_out.read_text(encoding="utf-8").split("\n\n") if " " in text.strip()]
        task.write_text("".join(json.dumps({"context": first, "choices": [f" {rest}"], "gold": 0}) + "\n" for first, rest in words))
        run(options, "eval", model, "--task", task, "--per-item", rows)
        path.write_text(json.dumps([-json.loads(row)["log_likelihoods"][0] for row in rows.read_text().splitlines()]))
    return sum(json.loads(path.read_text()))


def searched(options, name, model, seed):
    out = options.work / f"search-{name}-{seed}"
    run(options, "search", options.space, "--model", model, "--objective", f"choice_nll:{options.task}", "--objective", "params",
        "--evals", options.evals, "--population", options.population, "--limit", options.limit, "--held-out", options.held_out,
        "--seed", seed, "--chunk-tokens", 512, "--workers", 1, "--out", out, out=subprocess.DEVNULL)
    return json.loads((out / "front.json").read_text(encoding="utf-8"))


def front_rows(name, seed, front):
    rows = []
    for point in front["points"]:
        held = point["held_out"][0]
        assert held["name"].startswith("accuracy:"), held
        rows.append({"supernet": name, "seed": seed, "network": point["genome"], "params": point["values"]["params"],
                     "held_out_accuracy": held["value"], "stderr": held["stderr"]})
    return rows


def draw(options, rows, names):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    for name, color in zip(names, ["#8a8a8a", "#1f6fb4", "#c44e00", "#0a8a5a"]):
        chosen = [row for row in rows if row["supernet"] == name]
        axes.errorbar([row["params"] / 1e6 for row in chosen], [row["held_out_accuracy"] for row in chosen],
                      yerr=[row["stderr"] for row in chosen], fmt="o", color=color, ecolor=color, alpha=0.75, markersize=4,
                      elinewidth=0.7, label=name)
    axes.set_xlabel("parameters, millions")
    axes.set_ylabel(f"held-out accuracy on {options.task}, with standard error")
    axes.set_title(f"Searched fronts before and after fine-tuning, seeds {', '.join(map(str, options.seeds))}", loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(options.out / "fronts.png", dpi=150)


def geometric_mean(values):
    return math.exp(statistics.mean(map(math.log, values)))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = os.environ.get("CRIADERO_CACHE", os.path.expanduser("~/.cache/criadero"))
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="the ranked supernet")
    parser.add_argument("--space", default="smollm2-135m")
    parser.add_argument("--text", type=pathlib.Path, default=pathlib.Path(cache, "assets", "calibration.txt"))
    parser.add_argument("--arm", type=arm_but(BEFORE), action="append", help='NAME="FLAGS" of `criadero tune`; several may be given')
    parser.add_argument("--characters", type=int, default=24_000, help="characters of held-out text")
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--evals", type=int, default=64)
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--searched", action="append", help="arm whose front is searched; by default the best one. Several may be given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("results/runs-tune-smollm2"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/tune-smollm2"))
    options = parser.parse_args()
    options.arm = options.arm or [("sandwich", "--steps 140 --learning-rate 3e-4")]
    return options


def main():
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    train, held_out = passages(options)
    lines = [f"{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} threads, {run(options, '--version').strip()}"]
    before = perplexities(options, BEFORE, options.model, held_out)
    rows, arms = list(before), {}
    whole, count = apart(options, BEFORE, options.model, held_out), tokens(options)
    of_parent, of_others = before[0]["perplexity"], geometric_mean(row["perplexity"] for row in before[1:])
    lines += ["", f"Held-out perplexity on {held_out.stat().st_size} bytes: the parent, and the geometric mean of {NETWORKS} random networks",
              f"  {BEFORE}: parent {of_parent:.3f}, networks {of_others:.2f}"]
    for name, flags in options.arm:
        model, hours = tuned(options, name, flags, train)
        after = perplexities(options, name, model, held_out)
        rows += after
        parent, others = after[0]["perplexity"], geometric_mean(row["perplexity"] for row in after[1:])
        arms[name] = (parent > MOST_PARENT * of_parent, others, model)
        alone = math.exp((apart(options, name, model, held_out) - whole) / count) - 1
        lines.append(f"  {name} `{flags}`, {hours:.2f} hours: parent {parent:.3f} ({100 * (parent / of_parent - 1):+.1f} %, at most +2 is "
                     f"wanted), networks {others:.2f} ({100 * (others / of_others - 1):+.1f} %, at most -30 is wanted); the parent on each passage for itself {100 * alone:+.1f} %")
    write_csv(options.out / "perplexity.csv", rows)
    best = min(arms, key=lambda name: arms[name][:2])
    points, names = [], options.searched or [best]
    lines += ["", f"Searched on {options.task}: {options.evals} evaluations, {options.limit} search and {options.held_out} held-out items"]
    volumes = {}
    for name, model in [(BEFORE, options.model), *((name, arms[name][2]) for name in names)]:
        fronts = [searched(options, name, model, seed) for seed in options.seeds]
        for seed, front in zip(options.seeds, fronts):
            points += front_rows(name, seed, front)
        volumes[name] = [front["hypervolume"] for front in fronts]
        ratios = [after / before for before, after in zip(volumes[BEFORE], volumes[name])]
        text = f"  {name}: held-out hypervolume, seeds {options.seeds}: {', '.join(f'{volume:.4f}' for volume in volumes[name])}"
        if name != BEFORE:
            text += f"; {', '.join(f'{ratio:.2f}' for ratio in ratios)} times, median {statistics.median(ratios):.2f} (at least 1.3 is wanted)"
        lines.append(text)
    write_csv(options.out / "fronts.csv", points)
    draw(options, points, [BEFORE, *names])
    text = "\n".join(lines) + "\n"
    (options.out / "summary.txt").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
