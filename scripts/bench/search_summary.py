"""The text of results/bench-search/summary.txt: what was measured, and where criadero loses. Pure: values in, text out."""

import importlib.metadata
import os
import statistics
import subprocess
import time

from machine import processor

PER_CANDIDATE_GOAL, END_TO_END_GOAL = 4, 40
#: Of the shortest search's clock.
CLOCK_SHARES = [0.4, 0.6, 0.8, 1.0]
PACKAGES = ["lm_eval", "transformers", "torch", "pymoo", "moocore"]


def text(options, equal, batches, in_bf16, charged, trajectories, spent):
    """`equal` and `spent` are the rows of equality.csv and costs.csv, `batches` and `in_bf16` seconds by batch size."""
    peers = {one.seed: one for one in trajectories if one.side == "peer"}
    arms = {name: {one.seed: one for one in trajectories if one.side == name} for name, _ in options.arm}
    reached = {name: {seed: Reached(peers[seed], one) for seed, one in by_seed.items()} for name, by_seed in arms.items()}
    factors = Factors(spent)
    parts = [
        heading(options),
        scores(equal),
        clock(equal, batches, in_bf16, charged),
        factors.lines(spent),
        arm_lines(options.arm, arms, factors, reached),
        by_clock(arms),
        *(between(options.arm[0][0], name, arms) for name, _ in options.arm[1:]),
        *(reached_lines(name, by_seed, min(in_bf16.values()) / min(map(min, batches.values()))) for name, by_seed in reached.items()),
        losses(factors, peers, arms, reached),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def heading(options):
    version = subprocess.run([options.criadero, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    versions = [version] + [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return [
        f"{options.evals} evaluations, population {options.population}, {options.limit} search items and {options.held_out} held-out items of "
        f"{options.task}, space {options.space}, seeds {options.seeds}",
        f"objectives choice_nll:{options.task} and params; hypervolume of held-out accuracy and size, reference chance and 1.05 x the parent",
        f"{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} threads; {', '.join(versions)}",
        "the peer's scores: " + ("lm-evaluation-harness, live" if options.live else "replayed from criadero, the clock lm-evaluation-harness's"),
    ]


def scores(equal):
    count = len({row["genome"] for row in equal})
    sizes = [row["params"] / 1e6 for row in equal]
    exported = sum(row["padded_by"] != "zeros in place" for row in equal)
    return [
        f"Same scores: {count} networks of {min(sizes):.1f}M to {max(sizes):.1f}M, {equal[0]['items']} items each, "
        f"{exported} of them also as an exported padded checkpoint",
        f"  largest difference of a choice's log-likelihood {max(row['largest_difference'] for row in equal):.1e} nats (allowed 1e-3); "
        f"{sum(row['other_answers'] for row in equal)} answers differ",
    ]


def clock(equal, batches, in_bf16, charged):
    seconds = [row["lm_eval_seconds"] for row in equal if row["padded_by"] == "zeros in place"]
    by_batch = ", ".join(f"{batch}: {min(runs):.2f} s" for batch, runs in batches.items())
    return [
        "The peer's clock: seconds of lm-evaluation-harness a network, without loading, task building and pymoo's own time",
        f"  by batch size, the better of two runs: {by_batch}",
        f"  charged {charged:.2f} s a network, the median of {len(seconds)} networks at batch size {equal[0]['batch']}; "
        f"from {min(seconds):.2f} s to {max(seconds):.2f} s (zeros cost as much as weights)",
        "  in bfloat16, the parent: " + ", ".join(f"{batch}: {seconds:.2f} s" for batch, seconds in in_bf16.items()),
    ]


class Factors:
    """Medians over a run's populations of the ratios between one way of scoring and the next."""

    def __init__(self, spent):
        ratio = lambda above, below: statistics.median(row[above] / row[below] for row in spent)
        self.packing = ratio("lm_eval", "whole")
        self.narrowing = ratio("whole", "alone")
        self.sharing = ratio("alone", "together")
        self.candidate = ratio("lm_eval", "together")
        self.together = statistics.median(row["together"] for row in spent)

    def lines(self, spent):
        middle = lambda name: f"{statistics.median(row[name] for row in spent):.3f} s"
        return [
            f"Cost per candidate at full fidelity, medians over the {len(spent)} populations of a run",
            f"  A lm-evaluation-harness, zero-padded {middle('lm_eval'):>12}",
            f"  B criadero, full width, alone        {middle('whole'):>12}   packing (and implementation) A/B {self.packing:.2f}",
            f"  C criadero, narrowed, alone          {middle('alone'):>12}   narrowing B/C {self.narrowing:.2f}",
            f"  D criadero, as a population          {middle('together'):>12}   sharing C/D {self.sharing:.2f}",
            f"  lm-evaluation-harness / criadero A/D {self.candidate:.2f} (at least {PER_CANDIDATE_GOAL} is wanted)",
        ]


class Reached:
    """When the peer and one of our searches had the peer's final held-out hypervolume."""

    def __init__(self, peer, ours):
        self.target = peer.steps[-1].hypervolume
        self.best = max(step.hypervolume for step in peer.steps)
        self.peer, self.ours = peer.reaches(self.target), ours.reaches(self.target)
        # A target that is never reached is infinitely far: its ratios are 0.
        self.seconds_ratio = self.peer.seconds / self.ours.seconds if self.ours else 0.0
        self.evaluations_ratio = self.peer.evaluations / self.ours.evaluations if self.ours else 0.0


def arm_lines(flags, arms, factors, reached):
    lines = ["Our searches: seconds an evaluation on their own clocks, start-up included (E), and what that makes of D: states kept",
             "between populations and racing, where the arm has them, less start-up"]
    seconds = {name: statistics.median(one.clock[-1] / len(one.networks) for one in by_seed.values()) for name, by_seed in arms.items()}
    for name, given in flags:
        engine = factors.together / seconds[name]
        evaluations = statistics.median(one.evaluations_ratio for one in reached[name].values())
        lines += [
            f"  {name} `{given}`: E {seconds[name]:.3f} s, D/E {engine:.2f}; {evaluations:.2f} times fewer evaluations (better search, surrogate)",
            f"    packing {factors.packing:.2f} x narrowing {factors.narrowing:.2f} x sharing {factors.sharing:.2f} "
            f"x kept states and racing {engine:.2f} x evaluations {evaluations:.2f}",
        ]
    first = flags[0][0]
    lines += [f"  seconds an evaluation, {first} / {name}: {seconds[first] / seconds[name]:.2f}" for name, _ in flags[1:]]
    return lines


def by_clock(arms):
    """What an arm is worth to somebody who waits: quality by time, not by evaluation."""
    end = min(one.clock[-1] for by_seed in arms.values() for one in by_seed.values())
    times = [share * end for share in CLOCK_SHARES]
    at = lambda one, time: ([0.0] + [step.hypervolume for step in one.steps if step.seconds <= time])[-1]
    lines = ["Held-out hypervolume of the front by our own clocks, means over seeds: " + ", ".join(f"{time:.0f} s" for time in times)]
    for name, by_seed in arms.items():
        means = [statistics.mean(at(one, time) for one in by_seed.values()) for time in times]
        lines.append(f"  {name:10} " + ", ".join(f"{mean:.4f}" for mean in means))
    return lines


def between(first, other, arms):
    """When two arms had the same held-out hypervolume: the lower one of their ends."""
    lines, ratios = [f"Until the same held-out hypervolume, the lower one of both ends: {first} against {other}"], []
    for seed, ours in arms[first].items():
        theirs = arms[other][seed]
        target = min(ours.steps[-1].hypervolume, theirs.steps[-1].hypervolume)
        mine, peer = ours.reaches(target), theirs.reaches(target)
        ratios.append(peer.seconds / mine.seconds)
        lines.append(f"  seed {seed}: {target:.4f}, {mine.seconds:.1f} s against {peer.seconds:.1f} s: {ratios[-1]:.2f} times sooner")
    lines.append(f"  median {statistics.median(ratios):.2f} times sooner")
    return lines


def reached_lines(name, by_seed, bf16_share):
    lines = [f"Until the peer's final held-out hypervolume: {name}"]
    for seed, one in by_seed.items():
        peer = f"{one.target:.4f} (its best {one.best:.4f}), peer {one.peer.evaluations} evaluations, {one.peer.seconds:.1f} s"
        ours = "ours never"
        if one.ours:
            ours = (f"ours {one.ours.evaluations} evaluations, {one.ours.seconds:.1f} s: "
                    f"{one.evaluations_ratio:.2f} times fewer, {one.seconds_ratio:.1f} times sooner")
        lines.append(f"  seed {seed}: {peer}; {ours}")
    middle = statistics.median(one.seconds_ratio for one in by_seed.values())
    lines.append(f"  median {middle:.1f} times sooner end to end (at least {END_TO_END_GOAL} is wanted; never counts as 0); "
                 f"{middle * bf16_share:.1f} times where the harness's clock is that in bfloat16")
    return lines


def losses(factors, peers, arms, reached):
    """Every number above that speaks against us."""
    lines = []
    for name, value in [("packing", factors.packing), ("narrowing", factors.narrowing), ("sharing", factors.sharing)]:
        if value < 1:
            lines.append(f"{name} makes a candidate {1 / value:.2f} times dearer")
    if factors.candidate < PER_CANDIDATE_GOAL:
        lines.append(f"a candidate is {factors.candidate:.2f} times cheaper, not {PER_CANDIDATE_GOAL}")
    for name, by_seed in arms.items():
        middle = statistics.median(one.seconds_ratio for one in reached[name].values())
        if middle < END_TO_END_GOAL:
            lines.append(f"{name}: {middle:.1f} times sooner end to end, not {END_TO_END_GOAL}")
        for seed, one in by_seed.items():
            search = f"{name}, seed {seed}"
            if reached[name][seed].ours is None:
                lines.append(f"{search}: never reaches what the peer ends with")
            for theirs in peers[seed].steps:
                mine = [step.hypervolume for step in one.steps if step.evaluations <= theirs.evaluations]
                if mine and mine[-1] < theirs.hypervolume:
                    lines.append(f"{search}: after {theirs.evaluations} evaluations {mine[-1]:.4f}, the peer {theirs.hypervolume:.4f}")
            early = [step.evaluations for step in peers[seed].steps if step.seconds < one.clock[0]]
            if early:
                lines.append(f"{search}: the peer has measured {early[-1]} networks when our first population ends at {one.clock[0]:.1f} s")
    return ["Where we lose"] + [f"  {line}" for line in lines or ["nowhere in these numbers"]]
