"""Which score of few questions tells best which networks of one size are accurate: Kendall's tau with accuracy on other questions.

    python3 scripts/bench/fitness.py --model SUPERNET [--tasks arc_easy piqa sciq hellaswag] [--sizes 0.8 0.67]

Networks of a size are those that the ranking thinks best after its losses were made wrong at random, with 0 to 6 layers dropped:
what searches have to tell apart. Each task's questions are drawn into 100 that are scored and the others, 20 times. Scores are of
log-likelihoods x of the choices, those of the parent p, and the true choice y:

    accuracy, choice_nll = -log softmax(x)[y], the same of x over 4, and of x per byte; KL of the choices' distributions,
    parent to network; margin of y before the best other one, within 3 nats; bits_per_byte = -x[y] per byte, and that of all choices

Networks and scores lie under --work. Needs numpy.
"""

import argparse
import json
import math
import pathlib
import random
import time

import numpy

import json_lines
from command import run
from machine import processor
from search_space import text

SCORED, DRAWS = 100, 20


class Losses:
    """Networks of a supernet by what its card says that each narrowing costs."""

    def __init__(self, model):
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        self.losses = json.loads((model / "criadero.json").read_text(encoding="utf-8"))["scores"]["losses"]
        self.whole = config["num_attention_heads"], config["intermediate_size"]
        hidden = config["hidden_size"]
        head = hidden // self.whole[0]
        self.head = hidden * head * 2 * (1 + config["num_key_value_heads"] / self.whole[0])
        self.channel = 3 * hidden
        self.ends = config["vocab_size"] * hidden
        self.params = self.ends + self.size([self.whole] * len(self.losses))

    def size(self, layers):
        return sum(heads * self.head + width * self.channel for heads, width in layers)

    def options(self, layer, heads, widths, rng):
        """`(gene, loss)` of a layer's genes, wrong by a factor each."""
        own, wrong = self.losses[layer], lambda: math.exp(rng.gauss(0, 0.5))
        of = lambda half, all_of, whole: {width: 0.0 if width == whole else own[half][str(width)] for width in all_of}
        attention = {width: loss * wrong() for width, loss in of("heads", heads, self.whole[0]).items()}
        mlp = {width: loss * wrong() for width, loss in of("mlp", widths, self.whole[1]).items()}
        yield (0, 0), own["dropped"] * wrong()
        yield from (((h, w), attention[h] + mlp[w]) for h in attention for w in mlp)

    def best(self, share, dropped, heads, widths, rng):
        """The network of a share of the parent's parameters with so many layers dropped that loses least; None where there is none."""
        unit = self.size([(0, self.whole[1])]) / 64
        states = {(0, 0): (0.0, [])}
        for layer in range(len(self.losses)):
            following = {}
            for gene, cost in self.options(layer, heads, widths, rng):
                for (size, gone), (loss, layers) in states.items():
                    key = size + round(self.size([gene]) / unit), gone + (gene == (0, 0))
                    if key[1] <= dropped and (key not in following or following[key][0] > loss + cost):
                        following[key] = loss + cost, [*layers, gene]
            states = following
        fits = [state for (_, gone), state in states.items() if gone == dropped and self.ends + self.size(state[1]) <= share * self.params]
        # Much smaller ones are no networks of this size.
        fits = [state for state in fits if self.ends + self.size(state[1]) > (share - 0.02) * self.params]
        return min(fits)[1] if fits else None


def rows_of(options, task, genomes):
    """By genome the rows of a task's questions in order."""
    path = options.work / f"{task}-{options.questions}.jsonl"
    if not path.is_file():
        list_of = options.work / "genomes.txt"
        list_of.write_text("\n".join(genomes) + "\n", encoding="utf-8")
        new = path.with_suffix(".new")
        command = [options.criadero, "eval", options.model, "--task", task, "--limit", options.questions, "--genomes", list_of]
        command += ["--per-item", new, "--json", "--arithmetic", options.arithmetic]
        run(command)
        new.rename(path)
    rows = {}
    for row in json_lines.read(path):
        if "index" in row:
            rows.setdefault(row["genome"], {})[row["index"]] = row
    return {genome: [own[index] for index in sorted(own)] for genome, own in rows.items()}


def log_softmax(x):
    return x - x.max() - math.log(numpy.exp(x - x.max()).sum())


def scores(row, parent):
    """Smaller is better."""
    x, p, y, sizes = numpy.array(row["log_likelihoods"]), numpy.array(parent["log_likelihoods"]), row["gold"][0], numpy.array(row["choice_bytes"])
    best_other = max(value for place, value in enumerate(x) if place != y)
    kl = lambda t: float((numpy.exp(log_softmax(p / t)) * (log_softmax(p / t) - log_softmax(x / t))).sum())
    return {
        "accuracy": -row["correct"],
        "choice_nll": -log_softmax(x)[y],
        "choice_nll, x / 4": -log_softmax(x / 4)[y],
        "choice_nll_norm": -log_softmax(x / sizes)[y],
        "KL of the choices": kl(1),
        "KL of the choices, / 4": kl(4),
        "margin": -min(max(x[y] - best_other, -3), 3),
        "bits_per_byte": -x[y] / sizes[y],
        "bits_per_byte, all choices": float((-x / sizes).mean()),
    }


def tau(one, other):
    signs = [numpy.sign(numpy.subtract.outer(values, values)) for values in (one, other)]
    return float((signs[0] * signs[1]).sum() / (len(one) * (len(one) - 1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="a supernet that was ranked with --space")
    parser.add_argument("--tasks", nargs="+", default=["arc_easy", "piqa", "sciq", "hellaswag"])
    parser.add_argument("--sizes", nargs="+", type=float, default=[0.8, 0.67], help="shares of the parent's parameters")
    parser.add_argument("--networks", type=int, default=20, help="of each size")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--heads", nargs="+", type=int, default=[3, 6, 9])
    parser.add_argument("--widths", nargs="+", type=int, default=[768, 1152, 1536])
    parser.add_argument("--arithmetic", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("target/fitness"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/bench-fitness"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)

    losses, rng = Losses(options.model), random.Random(1)
    drawn = {size: [losses.best(size, place % 7, options.heads, options.widths, rng) for place in range(options.networks)] for size in options.sizes}
    groups = {size: sorted({text(layers) for layers in own if layers}) for size, own in drawn.items()}
    parent = text([losses.whole] * len(losses.losses))

    table = {}
    draws = numpy.random.default_rng(1)
    for task in options.tasks:
        rows = rows_of(options, task, [parent, *(genome for own in groups.values() for genome in own)])
        found = {genome: [scores(row, whole) for row, whole in zip(own, rows[parent], strict=True)] for genome, own in rows.items()}
        names = list(found[parent][0])
        values = {genome: numpy.array([[row[name] for name in names] for row in own]) for genome, own in found.items()}
        for size, genomes in groups.items():
            taus = []
            for _ in range(DRAWS):
                order = draws.permutation(len(rows[parent]))
                scored, others = order[:SCORED], order[SCORED:]
                truth = [-values[genome][others, 0].mean() for genome in genomes]
                taus.append([tau([-values[genome][scored, place].mean() for genome in genomes], truth) for place in range(len(names))])
            table[task, size] = dict(zip(names, numpy.mean(taus, axis=0)))
        print(f"{time.strftime('%H:%M:%S')} {task}", flush=True)

    columns = list(table)
    lines = [f"Kendall's tau of a score of {SCORED} questions with accuracy on {options.questions - SCORED} others, mean of {DRAWS} draws, within networks of one size",
             f"{', '.join(f'{len(own)} networks of {size:g}' for size, own in groups.items())} of the parent; {options.arithmetic}, {time.strftime('%Y-%m-%d')}, {processor()}", "",
             " " * 28 + "".join(f"{f'{task} {size:g}':>16}" for task, size in columns) + f"{'mean':>8}"]
    for name in sorted(table[columns[0]], key=lambda name: -sum(table[column][name] for column in columns)):
        own = [table[column][name] for column in columns]
        lines.append(f"{name:<28}" + "".join(f"{value:>16.2f}" for value in own) + f"{sum(own) / len(own):>8.3f}")
    (options.out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
