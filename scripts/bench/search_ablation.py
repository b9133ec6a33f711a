"""Search algorithms against each other from identical first populations: what each front is worth on questions that no search saw.

    python3 scripts/bench/search_ablation.py --model SUPERNET --arm linas="--algorithm linas" --arm nsga2="--algorithm nsga2" [--peers]

An arm is `criadero search` with flags, in which {evals} stands for the evaluations. With --peers two others begin with the first
arm's first population and score by the same questions: pymoo's NSGA-II, and a search that only mutates, as EvoPress does.

A front's worth is what a user gets who takes, for a random budget of parameters, the largest network of the front within it:
the mean over budgets, from the space's smallest network to the parent, of the accuracy, of bits_per_byte, which has less noise, and of
choice_nll, which was searched by.
Which networks these are was decided by search scores, so that no maximum over noisy scores is taken and a front with more points is
not worth more for that alone.
Intervals are of a bootstrap over questions, paired: all fronts are measured on the same ones. The questions are the held-out ones
behind the first --skip, which fronts and tables elsewhere are reported on. Runs and scores lie under --work, and the same command
again makes only what is missing.

Needs numpy, PyYAML; for peers pymoo.
"""

import argparse
import math
import os
import pathlib
import shlex
import shutil
import time

import numpy

import json_lines
from arms import arm_but, read_csv, write_csv
from command import run
from fitness import log_softmax
from machine import processor
from mutation_only import level_switches, non_dominated
from score_cache import AT_ONCE, ScoreCache, evaluate
from search_space import SearchSpace

BOOTSTRAPS = 2000
METRIC = "choice_nll"
PEERS = ["pymoo", "mutation"]
SCORES = ["accuracy", "bits_per_byte", METRIC]
CACHE = os.environ.get("CRIADERO_CACHE", os.path.expanduser("~/.cache/criadero"))


def search(options, space, arm, flags, evals, seed, shorter=None):
    """Genomes and parameters of a search's front, parent included, and its seconds; makes it where it is not there. It goes on where a
    `shorter` one of equal flags, if there is one, ended: that gives the same bytes."""
    out = run_of(options, arm, evals, seed)
    if shorter and "{evals}" not in flags and not out.exists():
        shutil.copytree(run_of(options, arm, shorter, seed), out)
    command = [options.criadero, "search", options.space, "--model", options.model, "--data", options.data, "--seed", seed, "--out", out]
    command += ["--objective", f"{METRIC}:{options.task}", "--objective", "params", "--evals", evals, "--population", options.population]
    command += ["--limit", options.limit, "--held-out", "16", "--arithmetic", options.arithmetic]
    # The same sums on both sides: a division measured anew may differ.
    command += ["--chunk-tokens", "1024", "--workers", "2", *shlex.split(flags.replace("{evals}", str(evals)))]
    evaluations = lambda: read_csv(out / "evaluations.csv") if (out / "evaluations.csv").is_file() else []
    if len(evaluations()) < evals:
        # It would go on to measure its front, which is done here for all fronts at once.
        run(command, until=lambda: len(evaluations()) >= evals)
    # What a race dropped is on no front.
    losses = {row["genome"]: float(row[f"{METRIC}:{options.task}"]) for row in evaluations() if row["items"] == str(options.limit) and not row["failed"]}
    timings = {row["population"]: row for row in reversed(read_csv(out / "timings.csv"))}
    told, seconds = 0, 0.0
    for row in sorted(timings.values(), key=lambda row: int(row["population"])):
        # What comes after is the front.
        seconds += float(row["seconds"]) if told < evals else 0.0
        told += int(row["networks"])
    return front_of(losses, losses, space), seconds


def front_of(networks, losses, space):
    return {genome: space.params(genome) for genome in {*non_dominated(networks, losses, space), space.parent()}}


def run_of(options, arm, evals, seed):
    return options.work / f"{arm}-{evals}-{seed}"


def peers(options, space, arm, seed):
    """Peers that begin with the arm's first population: `(name, evaluations, front)` of each, the front as genomes and parameters."""
    from evolution import evolve

    rows = read_csv(run_of(options, arm, min(options.evals), seed) / "evaluations.csv")
    first = [row["genome"] for row in rows if row["population"] == "0"]
    scores = ScoreCache(options, "search", options.limit, options.arithmetic)
    score = lambda genomes: {genome: row[METRIC] for genome, row in scores.of(genomes).items()}
    most = max(options.evals)
    found = [
        [genome for population in evolve(space, options.population, most, seed, score, first) for genome in population],
        level_switches(space, options.population, most, seed, score, first),
    ]
    for name, networks in zip(PEERS, found, strict=True):
        for evals in options.evals:
            yield name, evals, front_of(networks[:evals], score(networks[:evals]), space)


class Judge:
    """What each of SCORES is for networks on the questions behind the first `skip`, one by one, kept under `work`."""

    def __init__(self, options):
        self.options = options
        self.path = options.work / f"answers-{options.task}-{options.skip}-{options.items}.jsonl"
        self.scores = {}
        for row in json_lines.appended(self.path):
            self.learn(row)

    def learn(self, row):
        self.scores[row["genome"]] = numpy.array([row[score] for score in SCORES])

    def rows(self, genomes, limit):
        per_item = self.options.work / "items.new.jsonl"
        evaluate(self.options, "held-out", limit, genomes, per_item=per_item, arithmetic=self.options.arithmetic)
        found = json_lines.read(per_item)
        per_item.unlink()
        return [row for row in found if "index" in row]

    def measure(self, genomes):
        missing = sorted(set(genomes) - set(self.scores))
        if not missing:
            return
        skipped = {row["index"] for row in self.rows(missing[:1], self.options.skip)}
        for start in range(0, len(missing), AT_ONCE):
            for row in self.answers(missing[start : start + AT_ONCE], skipped):
                json_lines.append(self.path, [row])
                self.learn(row)

    def answers(self, genomes, skipped):
        found = {genome: {} for genome in genomes}
        for row in self.rows(genomes, self.options.skip + self.options.items):
            if row["index"] not in skipped:
                [gold], likely = row["gold"], numpy.array(row["log_likelihoods"])
                bits = -likely[gold] / row["choice_bytes"][gold] / math.log(2)
                nll = -log_softmax(likely)[gold]
                found[row.get("genome", genomes[0])][row["index"]] = row["correct"], round(bits, 4), round(nll, 4)
        for genome, own in found.items():
            yield {"genome": genome} | dict(zip(SCORES, zip(*(own[index] for index in sorted(own)))))


def worth(points, smallest, parent, scores):
    """Mean over budgets from the smallest size to the parent's of the score of the largest network within the budget.

    `scores`: by genome an array over bootstrap samples."""
    ordered = sorted(points, key=points.get)
    starts = [smallest, *(points[genome] for genome in ordered[1:])]
    spans = [max(end - start, 0) / (parent - smallest) for start, end in zip(starts, [*starts[1:], parent])]
    # The parent itself is what a user has who asks for nothing smaller: it has no budgets of its own.
    return sum(span * scores[genome] for genome, span in zip(ordered, spans))


def compared(arms, seeds, worths):
    """Each arm, and what the first has more than the others."""
    first, *others = arms
    mean = {arm: numpy.mean([worths[arm, seed] for seed in seeds], axis=0) for arm in arms}
    for arm in arms:
        yield f"  {arm:<24} {mean[arm][0]:.4f} ± {mean[arm][1:].std():.4f}   by seed " + ", ".join(f"{worths[arm, seed][0]:.4f}" for seed in seeds)
    for arm in others:
        paired = mean[first] - mean[arm]
        low, high = numpy.percentile(paired[1:], [2.5, 97.5])
        by_seed = [worths[first, seed][0] - worths[arm, seed][0] for seed in seeds]
        spread = numpy.std(by_seed, ddof=1) / len(by_seed) ** 0.5 if len(by_seed) > 1 else math.nan
        yield f"  {first} − {arm}: {paired[0]:+.4f}, 95 % over questions {low:+.4f} to {high:+.4f}, standard error over seeds {spread:.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True, help="the ranked supernet")
    parser.add_argument("--space", default="smollm2-135m")
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(CACHE, "assets"))
    parser.add_argument("--evals", type=int, nargs="+", default=[96, 250])
    parser.add_argument("--population", type=int, default=16)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--skip", type=int, default=200, help="held-out questions that others are reported on")
    parser.add_argument("--items", type=int, default=800, help="questions that fronts are compared on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--arithmetic", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--arm", type=arm_but(*PEERS), action="append", required=True, metavar="NAME=FLAGS", help="of `criadero search`; the first is the one to beat")
    parser.add_argument("--peers", action="store_true", help="also pymoo's NSGA-II and mutation alone, from the first arm's first population")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("target/ablation"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/bench-ablation"))
    options = parser.parse_args()
    options.evals.sort()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    arms, space = dict(options.arm), SearchSpace(options.space, options.model)

    fronts, seconds = {}, {}
    for seed in options.seeds:
        for arm, flags in arms.items():
            for shorter, evals in zip([None, *options.evals], options.evals):
                fronts[evals, arm, seed], seconds[evals, arm, seed] = search(options, space, arm, flags, evals, seed, shorter)
                log(f"{arm} {seed}: {evals} evaluations, {len(fronts[evals, arm, seed])} networks, {seconds[evals, arm, seed]:.0f} s")
        if options.peers:
            for name, evals, points in peers(options, space, next(iter(arms)), seed):
                fronts[evals, name, seed] = points
                log(f"{name} {seed}: {evals} evaluations, {len(points)} networks")
    judge = Judge(options)
    judge.measure([genome for points in fronts.values() for genome in points])

    items = next(iter(judge.scores.values())).shape[1]
    draws = numpy.random.default_rng(1).integers(items, size=(BOOTSTRAPS, items))
    weights = numpy.stack([numpy.bincount(draw, minlength=items) for draw in [numpy.arange(items), *draws]]) / items
    smallest, parent = (of(of(points.values()) for points in fronts.values()) for of in (min, max))
    worths = {}
    for place, score in enumerate(SCORES):
        sampled = {genome: weights @ own[place] for genome, own in judge.scores.items()}
        worths |= {(score, *key): worth(points, smallest, parent, sampled) for key, points in fronts.items()}

    rows = []
    for (evals, arm, seed), points in sorted(fronts.items()):
        row = {"evaluations": evals, "arm": arm, "seed": seed, "networks": len(points)}
        for score in SCORES:
            own = worths[score, evals, arm, seed]
            row |= {score: f"{own[0]:.5f}", f"{score}_stderr": f"{own[1:].std():.5f}"}
        rows.append(row | {"seconds": f"{seconds[evals, arm, seed]:.1f}" if (evals, arm, seed) in seconds else ""})
    write_csv(options.out / "runs.csv", rows)

    lines = [f"population {options.population}, {METRIC} of {options.limit} questions of {options.task} and params, space {options.space}, "
             f"seeds {options.seeds}, {options.arithmetic}",
             f"means over budgets of parameters, on {items} other questions; {time.strftime('%Y-%m-%d')}, {processor()}"]
    for evals in options.evals:
        for score in SCORES:
            names = list(dict.fromkeys(arm for of, arm, _ in fronts if of == evals))
            own = {(arm, seed): one for (name, of, arm, seed), one in worths.items() if (name, of) == (score, evals)}
            lines += ["", f"{evals} evaluations, {score}", *compared(names, options.seeds, own)]
    text = "\n".join(lines) + "\n"
    (options.out / "summary.txt").write_text(text, encoding="utf-8")
    print(text, end="")


def log(line):
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    main()
