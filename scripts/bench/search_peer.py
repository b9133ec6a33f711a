"""criadero's search against pymoo's NSGA-II with lm-evaluation-harness scoring each network zero-padded.

    python3 scripts/bench/search_peer.py --criadero target/release/criadero --model SUPERNET [--arm NAME="FLAGS"]...

Same space, task, items and reference point. The peer's scores are replayed from criadero once lm-evaluation-harness has been
shown to give the same ones item by item, while its clock charges the seconds that the harness takes for a network at its
best batch size; `--live` lets the harness score every network. An arm is `criadero search` with FLAGS, where {first} stands
for a file with the peer's first population.

Writes equality.csv, peer.csv, ours.csv, trajectory.csv, costs.csv, summary.txt and hypervolume.png to --out. What was
measured is kept under --work, and the same command again measures only what is missing; for other items, another
model or another space take another --work. Leave the machine alone meanwhile.

Needs lm_eval==0.4.13, torch, transformers, accelerate, datasets, pyarrow, pymoo, moocore, numpy, matplotlib, PyYAML.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import time

import json_lines
import search_summary
from arms import arm_but, read_csv, write_csv
from score_cache import ScoreCache, evaluate
from search_space import SearchSpace
from trajectory import Network, Trajectory, draw

TOLERANCE = 1e-3  # nats a choice
QUICK = {"evals": 24, "population": 8, "limit": 8, "held_out": 16, "seeds": [1, 2], "networks": 4, "batches": [1, 8],
         "alone": 2, "work": pathlib.Path("results/runs-bench-search-quick"), "out": pathlib.Path("results/runs-bench-search-quick/out")}


class Bench:
    """What all stages share."""

    def __init__(self, options):
        self.options = options
        self.space = SearchSpace(options.space, options.model)
        self.search = ScoreCache(options, "search", options.limit)
        self.held_out = ScoreCache(options, "held-out", options.held_out)
        self.size = f"{options.evals}x{options.population}"

    def log(self, line):
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    @functools.cached_property
    def harness(self):
        """Loaded when something must be scored by it; the time is on nobody's clock, nor is a first warm run."""
        from zero_padded import ZeroPadded

        self.log("loading lm-evaluation-harness")
        rows = ours_item_by_item(self, [self.space.parent()])
        padded = ZeroPadded(self.options.model, self.options.task, self.options.data, [row["index"] for row in rows])
        padded.ask(max(self.options.batches))
        return padded

    @functools.cached_property
    def best_batch(self):
        seconds = {batch: min(runs) for batch, runs in batch_seconds(self).items()}
        return min(seconds, key=seconds.get)


def ours_item_by_item(bench, genomes):
    """criadero's scores of the search items, network by network, kept in a file of their own."""
    path = bench.options.work / "items.jsonl"
    known = {row["genome"] for row in json_lines.appended(path)}
    missing = [genome for genome in genomes if genome not in known]
    if missing:
        fresh = bench.options.work / "items.new.jsonl"
        evaluate(bench.options, "search", bench.options.limit, missing, per_item=fresh)
        json_lines.append(path, json_lines.read(fresh))
        fresh.unlink()
    return [row for genome in genomes for row in json_lines.appended(path) if row["genome"] == genome]


def batch_seconds(bench):
    """Seconds of lm-evaluation-harness for the parent, two runs of each batch size."""
    path = bench.options.work / "batches.jsonl"
    runs = {}
    for row in json_lines.appended(path):
        runs.setdefault(row["batch"], []).append(row["seconds"])
    for run in range(2):
        for batch in bench.options.batches:
            if len(runs.get(batch, [])) <= run:
                _, seconds = bench.harness.score(bench.space.parent(), batch)
                json_lines.append(path, [{"batch": batch, "seconds": seconds}])
                runs.setdefault(batch, []).append(seconds)
                bench.log(f"lm-evaluation-harness, batch size {batch}: {seconds:.2f} s a network")
    return {batch: runs[batch] for batch in bench.options.batches}


def bf16_seconds(bench):
    """Seconds of lm-evaluation-harness in bfloat16 for the parent by batch size, the better of two runs: what its user would choose
    on a machine with instructions for it. Only its clock: its scores are not ours."""
    from zero_padded import ZeroPadded

    path = bench.options.work / "bf16.jsonl"
    runs = {row["batch"]: row["seconds"] for row in json_lines.appended(path)}
    if any(batch not in runs for batch in bench.options.batches):
        places = [row["index"] for row in ours_item_by_item(bench, [bench.space.parent()])]
        harness = ZeroPadded(bench.options.model, bench.options.task, bench.options.data, places, dtype="bfloat16")
        harness.ask(max(bench.options.batches))
        for batch in bench.options.batches:
            if batch not in runs:
                runs[batch] = min(harness.ask(batch)[1] for _ in range(2))
                json_lines.append(path, [{"batch": batch, "seconds": runs[batch]}])
                bench.log(f"lm-evaluation-harness in bfloat16, batch size {batch}: {runs[batch]:.2f} s a network")
    return {batch: runs[batch] for batch in bench.options.batches}


def equality(bench):
    """Both evaluators' scores of networks of all sizes, one row a network; exits where they are not the same."""
    path = bench.options.work / "equality.jsonl"
    genomes = bench.space.over_the_sizes(bench.options.networks, seed=0)
    batch_seconds(bench)
    ways = [("zeros in place", genome) for genome in genomes] + [("hf-padded export", genomes[len(genomes) // 2])]
    known = {(row["padded_by"], row["genome"]) for row in json_lines.appended(path)}
    missing = [way for way in ways if way not in known]
    for padded_by, genome in missing:
        ours = ours_item_by_item(bench, genomes)
        ours = [row for row in ours if row["genome"] == genome]
        theirs, seconds = score_padded(bench, padded_by, genome)
        pairs = list(zip(ours, theirs, strict=True))
        largest = max(abs(a - b) for one, other in pairs for a, b in zip(one["log_likelihoods"], other["log_likelihoods"], strict=True))
        other_answers = sum(one["correct"] != other["correct"] for one, other in pairs)
        row = {"genome": genome, "params": bench.space.params(genome), "padded_by": padded_by, "items": len(pairs),
               "choices": sum(len(one["log_likelihoods"]) for one in ours), "largest_difference": largest,
               "other_answers": other_answers, "batch": bench.best_batch, "lm_eval_seconds": seconds}
        json_lines.append(path, [row])
        bench.log(f"equality, {row['params'] / 1e6:.1f}M, {padded_by}: largest difference {largest:.1e}, {other_answers} other answers")
    rows = [row for row in json_lines.appended(path) if (row["padded_by"], row["genome"]) in ways]
    write_csv(bench.options.out / "equality.csv", rows)
    wrong = [row for row in rows if row["largest_difference"] > TOLERANCE or row["other_answers"] > 0]
    if wrong and not bench.options.live:
        raise SystemExit(f"{len(wrong)} of {len(rows)} networks score differently in lm-evaluation-harness, see equality.csv; "
                         "its scores cannot be replayed from ours, --live runs it for every network")
    return rows


def score_padded(bench, padded_by, genome):
    if padded_by == "zeros in place":
        return bench.harness.score(genome, bench.best_batch)
    from zero_padded import ZeroPadded

    directory = bench.options.work / "hf-padded"
    shutil.rmtree(directory, ignore_errors=True)
    command = [bench.options.criadero, "export", bench.options.model, f"--genome={genome}", "--format", "hf-padded", "--dtype", "f32"]
    subprocess.run([*command, "--out", directory], check=True, stdout=subprocess.DEVNULL)
    places = [row["index"] for row in ours_item_by_item(bench, [genome])]
    exported = ZeroPadded(directory, bench.options.task, bench.options.data, places)
    shutil.rmtree(directory)
    return exported.ask(bench.best_batch)


def peer(bench, seed, charged):
    """The peer's search: deterministic, so that it is played again from known scores rather than stored."""
    from evolution import evolve

    options = bench.options
    live_path = options.work / "live.jsonl"
    live = {row["genome"]: row for row in json_lines.appended(live_path)} if options.live else {}

    def losses(genomes):
        if not options.live:
            return {genome: row["choice_nll"] for genome, row in bench.search.of(genomes).items()}
        for genome in dict.fromkeys(genomes):
            if genome not in live:
                rows, seconds = bench.harness.score(genome, bench.best_batch)
                mean = lambda name: sum(row[name] for row in rows) / len(rows)
                live[genome] = {"genome": genome, "choice_nll": mean("choice_nll"), "acc": mean("correct"), "seconds": seconds}
                json_lines.append(live_path, [live[genome]])
        bench.log(f"peer, seed {seed}: {len(genomes)} networks scored live")
        return {genome: live[genome]["choice_nll"] for genome in genomes}

    populations = evolve(bench.space, options.population, options.evals, seed, losses)
    networks, clock, seen = [], [], set()
    for population, genomes in enumerate(populations):
        genomes = genomes[: options.evals - len(networks)]
        scores = live if options.live else bench.search.of(genomes)
        # A network that was scored before is not charged again, though pymoo alone would score it anew.
        new = set(genomes) - seen
        spent = sum(live[genome]["seconds"] for genome in new) if options.live else charged * len(new)
        seen |= new
        clock.append(spent + (clock[-1] if clock else 0.0))
        for genome in genomes:
            score = scores[genome]
            networks.append(Network(population, genome, score["choice_nll"], bench.space.params(genome),
                                    max(bench.space.violation(genome), 0.0), score["acc"]))
    bench.log(f"peer, seed {seed}: {len(networks)} networks, {clock[-1]:.0f} s on its clock")
    return Trajectory("peer", seed, networks, clock)


def ours(bench, arm, flags, seed, first):
    """One arm's search. One that was stopped half-way begins again: its clock would be short of what was redone."""
    options = bench.options
    out = options.work / "ours" / f"{arm}-{seed}-{bench.size}"
    finished = out / "clock.json"
    file = options.work / f"first-{seed}-{bench.size}.txt"
    file.write_text("".join(f"{genome}\n" for genome in first), encoding="utf-8")
    if not finished.is_file():
        shutil.rmtree(out, ignore_errors=True)
        command = [options.criadero, "search", options.space, "--model", options.model, "--data", options.data, "--seed", seed]
        command += ["--objective", f"choice_nll:{options.task}", "--objective", "params", "--evals", options.evals]
        command += ["--population", options.population, "--limit", options.limit, "--held-out", options.held_out, "--out", out]
        command += [part.replace("{first}", str(file)) for part in shlex.split(flags)]
        start = time.perf_counter()
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        finished.write_text(json.dumps({"flags": flags, "seconds": time.perf_counter() - start}) + "\n", encoding="utf-8")
    wall = json.loads(finished.read_text(encoding="utf-8"))
    if wall["flags"] != flags:
        raise SystemExit(f"{out} was searched with `{wall['flags']}`, not `{flags}`; name the arm differently or remove it")
    timings = [float(row["seconds"]) for row in read_csv(out / "timings.csv")]
    networks = [
        Network(int(row["population"]), row["genome"], float(row[f"choice_nll:{options.task}"]), int(row["params"]),
                float(row["violation"]), float(row[f"search_accuracy:{options.task}"]), int(row["items"]) == options.limit)
        for row in read_csv(out / "evaluations.csv") if not row["failed"]
    ]
    wrong = [one.genome for one in networks if bench.space.params(one.genome) != one.params]
    if wrong:
        raise SystemExit(f"{wrong[0]} has another number of parameters in {out}; the peer's space is not ours")
    # Everything that is in no population's time is charged before the first: loading, packing, writing the end.
    start_up = wall["seconds"] - sum(timings)
    populations = max(one.population for one in networks) + 1
    clock = [start_up + sum(timings[: last + 1]) for last in range(populations)]
    bench.log(f"ours, {arm}, seed {seed}: {len(networks)} networks, start-up {start_up:.1f} s, {clock[-1]:.0f} s")
    return Trajectory(arm, seed, networks, clock)


def judge(bench, trajectories):
    """Held-out hypervolumes of all steps, on nobody's clock; ours must end where its own report says."""
    arm = next(one for one in trajectories if one.side != "peer")
    front = lambda one: json.loads((bench.options.work / "ours" / f"{one.side}-{one.seed}-{bench.size}" / "front.json").read_text())
    [chance] = front(arm)["chance"]
    genomes = {network.genome for one in trajectories for networks in one.fronts() for network in networks}
    bench.log(f"measuring {len(genomes)} networks of all fronts on held-out items")
    accuracies = {genome: row["acc"] for genome, row in bench.held_out.of(sorted(genomes)).items()}
    for one in trajectories:
        one.judge(accuracies, chance, bench.space.params(bench.space.parent()))
        if one.side != "peer" and abs(one.steps[-1].hypervolume - front(one)["hypervolume"]) > 1e-9:
            raise SystemExit(f"{one.side}, seed {one.seed}: the hypervolume is {one.steps[-1].hypervolume}, in front.json "
                             f"{front(one)['hypervolume']}")


def costs(bench, trajectory):
    """Seconds a network, population by population of a real run, everything in turn:

    `lm_eval` for one zero-padded network (A); `whole`, the parent alone in criadero (B); `alone`, networks of the population
    one by one (C); `together`, the population at once (D). Networks alone are scored in one process after the smallest,
    which is not counted, so that nothing is touched for the first time in B and C; in D it is.
    """
    path = bench.options.work / f"costs-{trajectory.side}-{trajectory.seed}-{bench.size}.jsonl"
    known = {row["population"] for row in json_lines.appended(path)}
    parent, smallest = bench.space.parent(), bench.space.smallest()
    for population in range(len(trajectory.clock)):
        genomes = [one.genome for one in trajectory.networks if one.population == population]
        others = [genome for genome in genomes if genome not in (parent, smallest)]
        if population in known or not others:
            continue
        chosen = others[:: max(1, len(others) // bench.options.alone)][: bench.options.alone]
        lm_eval = [bench.harness.score(genome, bench.best_batch)[1] for genome in chosen[:2]]
        together = evaluate(bench.options, "search", bench.options.limit, genomes)[0]["seconds"]
        _, whole, *alone = evaluate(bench.options, "search", bench.options.limit, [smallest, parent, *chosen], alone=True)
        row = {"population": population, "networks": len(genomes), "lm_eval": statistics.mean(lm_eval), "whole": whole["seconds"],
               "alone": statistics.mean(one["seconds"] for one in alone), "together": together / len(genomes)}
        json_lines.append(path, [row])
        bench.log(f"costs, population {population}: " + ", ".join(f"{name} {row[name]:.3f} s" for name in ["lm_eval", "whole", "alone", "together"]))
    return json_lines.appended(path)


def write_trajectories(out, trajectories):
    named = lambda one: {"seed": one.seed} if one.side == "peer" else {"arm": one.side, "seed": one.seed}
    row = lambda one, network: named(one) | dataclasses.asdict(network) | {"seconds": round(one.clock[network.population], 3)}
    for name, chosen in [("peer", lambda one: one.side == "peer"), ("ours", lambda one: one.side != "peer")]:
        write_csv(out / f"{name}.csv", [row(one, network) for one in trajectories if chosen(one) for network in one.networks])
    steps = [{"side": one.side, "seed": one.seed} | dataclasses.asdict(step) for one in trajectories for step in one.steps]
    write_csv(out / "trajectory.csv", steps)


def check_work(options):
    """A work directory is for one model, space, task and items: scores of others would be taken for these."""
    names = ["model", "space", "task", "limit", "held_out"]
    wanted = {name: str(getattr(options, name)) for name in names} | {"cores": str(os.cpu_count())}
    path = options.work / "settings.json"
    options.work.mkdir(parents=True, exist_ok=True)
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else wanted
    differences = [f"{name} {there.get(name)}, now {wanted[name]}" for name in wanted if there.get(name) != wanted[name]]
    if differences:
        raise SystemExit(f"{options.work} is of another comparison: {'; '.join(differences)}; take another --work")
    path.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = os.environ.get("CRIADERO_CACHE", os.path.expanduser("~/.cache/criadero"))
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="the ranked supernet, a Hugging Face directory")
    parser.add_argument("--space", default="smollm2-135m")
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(cache, "assets"))
    parser.add_argument("--arm", type=arm_but("peer"), action="append", help='NAME="FLAGS": a search of ours; several may be given')
    parser.add_argument("--evals", type=int, default=250)
    parser.add_argument("--population", type=int, default=50)
    parser.add_argument("--limit", type=int, default=64, help="search items")
    parser.add_argument("--held-out", type=int, default=200, help="held-out items")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--networks", type=int, default=12, help="networks whose scores are compared item by item")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 16, 32, 64], help="batch sizes to find lm-eval's best of")
    parser.add_argument("--alone", type=int, default=10, help="networks a population that are timed alone")
    parser.add_argument("--live", action="store_true", help="lm-evaluation-harness scores every network of the peer")
    parser.add_argument("--quick", action="store_true", help="tiny numbers in a directory of their own: does it run?")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("results/runs-bench-search"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results/bench-search"))
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    options.arm = options.arm or [("default", "")]
    return options


def main():
    options = parse()
    check_work(options)
    bench = Bench(options)
    if os.getloadavg()[0] > 0.5:
        bench.log(f"note: the machine is busy (load {os.getloadavg()[0]:.1f}); what is timed now is no use")
    equal = equality(bench)
    in_place = [row["lm_eval_seconds"] for row in equal if row["padded_by"] == "zeros in place"]
    charged = statistics.median(in_place)
    in_bf16 = bf16_seconds(bench)
    trajectories = [peer(bench, seed, charged) for seed in options.seeds]
    for seed, theirs in zip(options.seeds, list(trajectories)):
        first = [one.genome for one in theirs.networks if one.population == 0]
        trajectories += [ours(bench, name, flags, seed, first) for name, flags in options.arm]
    judge(bench, trajectories)
    first_arm = next(one for one in trajectories if one.side == options.arm[0][0])
    spent = costs(bench, first_arm)
    write_csv(options.out / "costs.csv", spent)
    write_trajectories(options.out, trajectories)
    seeds = ", ".join(map(str, options.seeds))
    title = f"{options.task}, {options.limit} search and {options.held_out} held-out items, {options.space}, seeds {seeds}"
    draw(trajectories, title, options.out / "hypervolume.png")
    summary = search_summary.text(options, equal, batch_seconds(bench), in_bf16, charged, trajectories, spent)
    (options.out / "summary.txt").write_text(summary, encoding="utf-8")
    print(summary, end="")


if __name__ == "__main__":
    main()
