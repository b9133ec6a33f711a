"""Makes engine.json: ranks, crowding and survivors from pymoo, hypervolumes from moocore.

Run with pymoo 0.6.2 and moocore 0.3.2 installed:  python3 make.py
Infinite values are written as null. pymoo breaks ties in crowding at random, with the seed below.
"""

import json
import pathlib

import moocore
import numpy as np
import pymoo
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

POINTS = 60
SURVIVORS = [1, 7, 20, 33, 59, 60]
rng = np.random.default_rng(20260101)


def plain(value):
    """Nested lists with null for what JSON cannot write."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value]
    return float(value) if np.isfinite(value) else None


def sphere(count, objectives):
    """Points none of which dominates another."""
    points = np.abs(rng.normal(size=(count, objectives)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def point_sets(objectives):
    yield "random", rng.random((POINTS, objectives))
    yield "front", sphere(POINTS, objectives)
    yield "duplicates", rng.integers(0, 4, (POINTS, objectives)).astype(float)
    distinct = rng.random((POINTS // 3, objectives))
    yield "thrice", np.concatenate([distinct, distinct, distinct])
    constant = rng.random((POINTS, objectives))
    constant[:, -1] = 0.25
    yield "constant", constant
    yield "all equal", np.full((POINTS, objectives), 0.5)


def survivors(points, violations, count):
    problem = Problem(n_var=1, n_obj=points.shape[1], n_ieq_constr=1)
    index = np.arange(len(points), dtype=float)[:, None]
    population = Population.new(X=index, F=points, G=violations[:, None])
    chosen = RankAndCrowding().do(problem, population, n_survive=count, random_state=np.random.default_rng(7))
    return sorted(int(x) for x in chosen.get("X")[:, 0])


def sorting_cases():
    for objectives in [2, 3, 4]:
        for name, points in point_sets(objectives):
            fronts, ranks = NonDominatedSorting().do(points, return_rank=True)
            crowding = np.zeros(len(points))
            for front in fronts:
                crowding[front] = get_crowding_function("cd").do(points[front])
            feasible = np.zeros(len(points))
            constrained = np.maximum(0.0, rng.uniform(-1.0, 1.0, len(points)))
            yield {
                "name": f"{name}, {objectives} objectives",
                "points": plain(points),
                "ranks": [int(rank) for rank in ranks],
                "crowding": plain(crowding),
                "survivors": {str(count): survivors(points, feasible, count) for count in SURVIVORS},
                "violations": plain(constrained),
                "constrained_survivors": {str(count): survivors(points, constrained, count) for count in SURVIVORS},
            }


def hypervolume_cases():
    for objectives in [2, 3, 4, 5]:
        for name, points in point_sets(objectives):
            references = [np.full(objectives, limit) + 0.01 * np.arange(objectives) for limit in [1.1, 0.7, 5.0]]
            yield {
                "name": f"{name}, {objectives} objectives",
                "points": plain(points),
                "references": plain(np.array(references)),
                "hypervolumes": [float(moocore.hypervolume(points, ref=reference)) for reference in references],
            }


golden = {
    "made_by": f"pymoo {pymoo.__version__}, moocore {moocore.__version__}, numpy {np.__version__}",
    "sorting": list(sorting_cases()),
    "hypervolume": list(hypervolume_cases()),
}
rows = ["{", f'"made_by": {json.dumps(golden["made_by"])},']
for key in ["sorting", "hypervolume"]:
    cases = ",\n".join(json.dumps(case, separators=(",", ":")) for case in golden[key])
    rows += [f'"{key}": [', cases, "]" + ("," if key == "sorting" else "")]
pathlib.Path(__file__).with_name("engine.json").write_text("\n".join(rows) + "\n}\n")
