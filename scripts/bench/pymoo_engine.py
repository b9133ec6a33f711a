"""The search engine beside pymoo and moocore: the same arrays, the same run, turn by turn.

    cargo build --release --example engine_times
    python3 scripts/bench/pymoo_engine.py

Needs numpy, pymoo and moocore. Each round times criadero (examples/engine_times.rs), then the Python side; the
shortest time of all rounds counts. Check values must agree: fronts, the sum of finite crowding distances, and
volumes to a relative 1e-12. Writes engine.csv and summary.txt to results/bench-engine.

Run it on a machine with nothing else to do: other programs interrupt long runs more often than short ones, so they
flatter the faster side.

Sorting and crowding together are compared twice: with pymoo's two functions on arrays, and with the survival
operator that its NSGA-II calls, which also keeps rank and distance in each individual.
"""

import argparse
import csv
import json
import math
import os
import platform
import subprocess
import time
from pathlib import Path

import moocore
import numpy as np
import pymoo
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.functions import is_compiled
from pymoo.indicators.hv import HV
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

SORTED = 10_000
FRONT = 500
GOAL = 20


def uniform(seed, count):
    """SplitMix64 (Steele et al. 2014), the upper 53 bits as numbers in 0..1."""
    with np.errstate(over="ignore"):
        bits = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)).astype(float) / 2.0**53


def cloud(count, objectives):
    """Points anywhere in the unit cube."""
    return uniform(objectives, count * objectives).reshape(count, objectives)


def front(count, objectives):
    """Points on the unit sphere, none of which dominates another."""
    points = cloud(count, objectives)
    return points / np.sqrt((points**2).sum(axis=1, keepdims=True))


def shortest(runs, work):
    """The result of `work` and the shortest of its times in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return result, 1e3 * min(times)


def crowding(points, fronts):
    distance = get_crowding_function("cd")
    distances = np.zeros(len(points))
    for members in fronts:
        distances[members] = distance.do(points[members])
    return distances


def survive(points):
    """Work for pymoo's survival operator, on individuals made beforehand."""
    population = Population.new("F", points)
    problem = Problem(n_var=1, n_obj=points.shape[1])
    return lambda: RankAndCrowding().do(problem, population, n_survive=len(points))


def peers():
    """For each row: its name, criadero's row, the peer, the check value and the peer's milliseconds."""
    finite = lambda distances: distances[np.isfinite(distances)].sum()
    for objectives in [2, 3, 4]:
        for kind, points in [("cloud", cloud(SORTED, objectives)), ("front", front(SORTED, objectives))]:
            of = f"{SORTED} points of a {kind}, {objectives} objectives"
            fronts, ms = shortest(40, lambda: NonDominatedSorting().do(points))
            yield f"sort {of}", f"sort {of}", "pymoo", len(fronts), ms
            distances, ms = shortest(40, lambda: crowding(points, fronts))
            yield f"crowding of {of}", f"crowding of {of}", "pymoo", finite(distances), ms
            both = f"sort and crowding of {of}"
            distances, ms = shortest(20, lambda: crowding(points, NonDominatedSorting().do(points)))
            yield both, both, "pymoo", finite(distances), ms
            survivors, ms = shortest(10, survive(points))
            yield f"survival of {of}", both, "pymoo", finite(survivors.get("crowding").astype(float)), ms
    for objectives in [2, 3, 4]:
        points, reference = front(FRONT, objectives), np.full(objectives, 1.1)
        name = f"hypervolume of a front of {FRONT}, {objectives} objectives"
        yield name, name, "pymoo", *shortest(1000, lambda: HV(ref_point=reference).do(points))
        yield name, name, "moocore", *shortest(1000, lambda: moocore.hypervolume(points, ref=reference))


def ours(command):
    lines = subprocess.run([command], check=True, capture_output=True, text=True).stdout.splitlines()
    return {row["name"]: row for row in map(json.loads, lines)}


def machine():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")] or [platform.processor()]
    return f"{models[0]}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", default="target/release/examples/engine_times", help="criadero's times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/bench-engine"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = {}
    for _ in range(arguments.rounds):
        mine = ours(arguments.command)
        for name, our_name, peer, check, ms in peers():
            our_check, our_ms = mine[our_name]["check"], mine[our_name]["ms"]
            tolerance = 1e-12 if name.startswith("hypervolume") else 1e-9
            if not math.isclose(our_check, check, rel_tol=tolerance):
                raise SystemExit(f"error: {name}: {our_check!r}, {peer} has {check!r}")
            least_ours, least_peer = rows.get((name, peer), (math.inf, math.inf))
            rows[name, peer] = min(least_ours, our_ms), min(least_peer, ms)
    with open(arguments.out / "engine.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["row", "peer", "criadero_ms", "peer_ms", "times_faster"])
        for (name, peer), (our_ms, ms) in rows.items():
            table.writerow([name, peer, f"{our_ms:.4f}", f"{ms:.4f}", f"{ms / our_ms:.1f}"])
    reached = sum(ms >= GOAL * our_ms for our_ms, ms in rows.values())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    lines = [
        f"machine: {machine()}, load at the end {load:.1f}; one thread on either side",
        f"pymoo {pymoo.__version__} (compiled modules: {is_compiled()}; its sorting and HV call moocore's C), "
        f"moocore {moocore.__version__}, numpy {np.__version__}, Python {platform.python_version()}",
        f"shortest times of {arguments.rounds} rounds in ms, the two sides in turn; check values agree, volumes to 1e-12",
        "",
        f"{'':76}{'criadero':>10}{'peer':>10}{'faster':>9}",
    ]
    for (name, peer), (our_ms, ms) in rows.items():
        lines.append(f"{name + ' | ' + peer:76}{our_ms:10.4f}{ms:10.4f}{ms / our_ms:8.1f}x")
    lines += ["", f"at least {GOAL} times faster: {reached} of {len(rows)} rows"]
    (arguments.out / "summary.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
