"""Times pymoo's sorting and moocore's hypervolume on the arrays of benches/engine.rs.

    python3 scripts/bench/pymoo_engine.py

Needs numpy, pymoo and moocore. Prints the same names and check values as `cargo bench --bench engine`, then the
shortest time of several runs in milliseconds.
"""

import time

import moocore
import numpy as np
import pymoo
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

SORTED = 10_000
FRONT = 500
RUNS = 7


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


def report(name, check, work):
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    print(f"{name}: {check(result)}, {1e3 * min(times):.3f} ms")


print(f"pymoo {pymoo.__version__}, moocore {moocore.__version__}, numpy {np.__version__}")
for objectives in [2, 3, 4]:
    for kind, points in [("cloud", cloud(SORTED, objectives)), ("front", front(SORTED, objectives))]:
        name = f"sort {SORTED} points of a {kind}, {objectives} objectives"
        report(name, lambda fronts: f"{len(fronts)} fronts", lambda: NonDominatedSorting().do(points))
for objectives in [2, 3, 4]:
    points, reference = front(FRONT, objectives), np.full(objectives, 1.1)
    name = f"hypervolume of a front of {FRONT}, {objectives} objectives"
    report(name, lambda volume: f"{volume:.12f}", lambda: moocore.hypervolume(points, ref=reference))
