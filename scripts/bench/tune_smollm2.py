"""What one-shot fine-tuning gives SmolLM2-135M: perplexity of fixed networks and the searched front, before and after.

    python3 scripts/bench/tune_smollm2.py --criadero target/release/criadero --model SUPERNET [--arm NAME="FLAGS"]...

An arm is `criadero tune` with FLAGS on the passages of the calibration text (CoQA and SQuAD, which no shipped task scores), each for
itself and run together as one text. One passage in 20, by the SHA-256 of its text, is never trained on: perplexity is measured on those, run
together in windows of 512 tokens, of the parent and of the networks of --networks: 16 random ones, since 22 November the same. So it is on
novels, LAMBADA's passages. The parent must not lose on single passages either (the curves of an arm are of other passages, from those that are
trained on). Then the same search runs on the ranked supernet and on the arm whose networks have the lowest perplexity while its parent is at
most 2 % worse: same space, seeds, questions and evaluations. A front is worth the held-out accuracy of its largest network within a budget of
parameters, the mean over budgets from half of the parent to the parent, as far as it is above guessing; its hypervolume is told beside it.

Writes perplexity.csv, fronts.csv, summary.txt and fronts.png to --out, and of every arm metrics.csv and curve.png. Runs stay
under --work, and the same command again measures only what is missing.

Needs matplotlib.
"""

import argparse
import hashlib
import itertools
import json
import math
import os
import pathlib
import shlex
import shutil
import statistics
import time

import json_lines
from arms import arm_but, read_csv, write_csv
from command import run
from machine import processor
from novels import documents

HELD_OUT_SHARE = 20
NOVELS = 30
#: A tuned parent may be this much worse.
MOST_PARENT = 1.02
BEFORE = "ranked"
HOUR = "--steps 285 --arithmetic bf16 --learning-rate 2e-4 --warmup 15 --measure-every 57"


class Texts:
    """What is trained on, and what is held out; written once."""

    def __init__(self, options):
        work = options.work
        work.mkdir(parents=True, exist_ok=True)
        self.train = [work / "train.jsonl", work / "train.txt"]
        #: Perplexity is measured on these.
        self.held_out = {"passages": work / "held-out.txt", "novels": work / "novels.jsonl"}
        #: Each passage behind its first word.
        self.apart = work / "held-out.jsonl"
        files = [*self.train, *self.held_out.values(), self.apart]
        if not all(file.is_file() for file in files):
            self._write(options)

    def _write(self, options):
        texts = [text.strip() for text in options.text.read_text(encoding="utf-8").split("\n\n") if text.strip()]
        left_out = lambda text: int(hashlib.sha256(text.encode()).hexdigest(), 16) % HELD_OUT_SHARE == 0
        train, held_out, characters = [text for text in texts if not left_out(text)], [], 0
        for text in filter(left_out, texts):
            if characters < options.characters:
                held_out.append(text)
                characters += len(text)
        behind = [text.split(" ", 1) for text in held_out if " " in text]
        novels = itertools.islice(documents(options.assets), NOVELS)
        json_lines.write(self.train[0], [{"text": text} for text in train])
        self.train[1].write_text("\n\n".join(train) + "\n", encoding="utf-8")
        self.held_out["passages"].write_text("\n\n".join(held_out) + "\n", encoding="utf-8")
        json_lines.write(self.held_out["novels"], [{"text": text} for text in novels])
        json_lines.write(self.apart, [{"context": first, "choices": [f" {rest}"], "gold": 0} for first, rest in behind])


def tuned(options, name, flags, texts):
    """The fine-tuned supernet of an arm, and its hours of training."""
    out = options.work / name
    data = [word for file in texts.train for word in ["--data", file]]
    run([options.criadero, "tune", options.model, "--space", options.space, *data, "--out", out, *shlex.split(flags)])
    for file in ["metrics.csv", "curve.png"]:
        shutil.copy(out / file, options.out / f"{name}-{file}")
    return out, sum(float(row["seconds"]) for row in read_csv(out / "timings.csv")) / 3600


class Scores:
    """Of a supernet: the perplexity of the parent and of the networks by text, and how many nats the parent needs for single passages."""

    def __init__(self, options, name, model, texts):
        self.name, self.networks = name, options.networks.read_text(encoding="utf-8").split()
        self.tokens = {}
        self.perplexities = {text: self._perplexities(options, model, text, path) for text, path in texts.held_out.items()}
        rows = options.work / f"apart-{name}.jsonl"
        if not rows.is_file():
            run([options.criadero, "eval", model, "--task", texts.apart, "--per-item", rows, *shlex.split(options.eval)])
        self.apart = -sum(row["log_likelihoods"][0] for row in json_lines.read(rows))

    def _perplexities(self, options, model, text, path):
        found = options.work / f"{text}-{self.name}.jsonl"
        if not found.is_file():
            found.write_text(run([options.criadero, "eval", model, "--task", path, "--genomes", options.networks, "--max-length", 512,
                                  "--json", *shlex.split(options.eval)]), encoding="utf-8")
        rows = json_lines.read(found)
        assert [row["genome"] for row in rows] == self.networks, f"{found}: other networks than {options.networks}"
        self.tokens[text] = rows[0]["naive_tokens"]
        return [row["perplexity"] for row in rows]

    def parent(self, text):
        return self.perplexities[text][0]

    def others(self, text):
        """Geometric mean."""
        return math.exp(statistics.mean(map(math.log, self.perplexities[text][1:])))

    def rows(self):
        return [{"supernet": self.name, "text": text, "network": network, "perplexity": perplexity}
                for text, perplexities in self.perplexities.items() for network, perplexity in zip(self.networks, perplexities, strict=True)]


def searched(options, name, model, seed):
    out = options.work / f"search-{name}-{seed}"
    run([options.criadero, "search", options.space, "--model", model, "--objective", f"choice_nll:{options.task}", "--objective", "params",
         "--evals", options.evals, "--population", options.population, "--limit", options.limit, "--held-out", options.held_out,
         "--seed", seed, "--out", out, *shlex.split(options.search)])
    return json.loads((out / "front.json").read_text(encoding="utf-8"))


def front_rows(name, seed, front):
    rows = []
    for point in front["points"]:
        held = point["held_out"][0]
        assert held["name"].startswith("accuracy:"), held
        rows.append({"supernet": name, "seed": seed, "network": point["genome"], "params": point["values"]["params"],
                     "held_out_accuracy": held["value"], "stderr": held["stderr"]})
    return rows


def above_guessing(front):
    """Held-out accuracy by budget, the mean over budgets."""
    score = front["over_budgets"]["scores"][0]
    assert score["name"].startswith("accuracy:"), score
    return score["value"] - front["chance"][0]


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


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    assets = pathlib.Path(os.environ.get("CRIADERO_CACHE", os.path.expanduser("~/.cache/criadero")), "assets")
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="the ranked supernet")
    parser.add_argument("--space", default="smollm2-135m")
    parser.add_argument("--networks", type=pathlib.Path, default=pathlib.Path("results/tune-smollm2/networks.txt"), help="the parent first")
    parser.add_argument("--assets", type=pathlib.Path, default=assets)
    parser.add_argument("--text", type=pathlib.Path, default=assets / "calibration.txt")
    parser.add_argument("--arm", type=arm_but(BEFORE), action="append", help='NAME="FLAGS" of `criadero tune`; several may be given')
    parser.add_argument("--characters", type=int, default=24_000, help="characters of held-out text")
    parser.add_argument("--eval", default="--arithmetic bf16", help="flags of `criadero eval`")
    parser.add_argument("--search", default="--arithmetic bf16", help="flags of `criadero search`")
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
    options.arm = options.arm or [("hour", HOUR)]
    return options


def percent(after, before):
    return f"{100 * (after / before - 1):+.1f} %"


def told(scores, before):
    """What a supernet's networks and parent predict, in words."""
    of_text = lambda text: (f"{text}: parent {scores.parent(text):.3f} ({percent(scores.parent(text), before.parent(text))}), "
                            f"networks {scores.others(text):.2f} ({percent(scores.others(text), before.others(text))})")
    apart = percent(math.exp((scores.apart - before.apart) / scores.tokens["passages"]), 1)
    return "; ".join([*map(of_text, scores.perplexities), f"the parent on each passage for itself {apart}"])


def main():
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    texts = Texts(options)
    version = run([options.criadero, "--version"]).strip()
    before = Scores(options, BEFORE, options.model, texts)
    rows, arms = before.rows(), {}
    lines = [f"{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} threads, {version}", "",
             f"Held-out perplexity: the parent, and the geometric mean of {len(before.networks) - 1} networks; "
             + ", ".join(f"{count} tokens of {text}" for text, count in before.tokens.items()), f"  {BEFORE}: {told(before, before)}"]
    for name, flags in options.arm:
        model, hours = tuned(options, name, flags, texts)
        after = Scores(options, name, model, texts)
        rows += after.rows()
        arms[name] = (after.parent("passages") > MOST_PARENT * before.parent("passages"), after.others("passages"), model)
        lines.append(f"  {name} `{flags}`, {hours:.2f} hours: {told(after, before)}")
    write_csv(options.out / "perplexity.csv", rows)
    points, names, worth = [], options.searched or [min(arms, key=lambda name: arms[name][:2])], {}
    lines += ["", f"Searched on {options.task}: {options.evals} evaluations, {options.limit} search and {options.held_out} held-out questions, "
              f"seeds {', '.join(map(str, options.seeds))}"]
    listed = lambda values: ", ".join(f"{value:.4f}" for value in values)
    for name, model in [(BEFORE, options.model), *((name, arms[name][2]) for name in names)]:
        fronts = [searched(options, name, model, seed) for seed in options.seeds]
        for seed, front in zip(options.seeds, fronts, strict=True):
            points += front_rows(name, seed, front)
        worth[name] = [above_guessing(front) for front in fronts]
        times = "" if name == BEFORE else f", {statistics.median(after / was for was, after in zip(worth[BEFORE], worth[name])):.2f} times"
        lines.append(f"  {name}: accuracy above guessing, mean over budgets, {listed(worth[name])}{times}; "
                     f"hypervolume {listed(front['hypervolume'] for front in fronts)}")
    write_csv(options.out / "fronts.csv", points)
    draw(options, points, [BEFORE, *names])
    text = "\n".join(lines) + "\n"
    (options.out / "summary.txt").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
