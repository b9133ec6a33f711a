"""pymoo's NSGA-II over a search space, with whatever scores its networks.

Needs numpy and pymoo. Operators are those that pymoo's documentation gives for whole numbers: simulated binary crossover and
polynomial mutation with rounding; duplicates are eliminated by network, not by vector.
"""

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.duplicate import ElementwiseDuplicateElimination
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize


class Subnets(Problem):
    """choice_nll and parameters, both minimised, under the space's limit of parameters."""

    def __init__(self, space, score):
        constraints = 1 if space.max_params else 0
        super().__init__(n_var=len(space.upper), n_obj=2, n_ieq_constr=constraints, xl=0, xu=np.array(space.upper), vtype=int)
        self.space, self.score = space, score
        self.populations = []

    def _evaluate(self, vectors, out, *args, **kwargs):
        genomes = [self.space.genome(vector) for vector in vectors]
        self.populations.append(genomes)
        losses = self.score(genomes)
        out["F"] = np.array([[losses[genome], self.space.params(genome)] for genome in genomes], dtype=float)
        if self.n_ieq_constr:
            out["G"] = np.array([[self.space.violation(genome)] for genome in genomes])


def evolve(space, population, evals, seed, score, first=None):
    """The genomes of every population in order; `score` maps a list of genomes to `{genome: choice_nll}`. The first population
    is drawn at random where `first` does not say it."""
    problem = Subnets(space, score)
    same = lambda a, b: space.genome(a.X) == space.genome(b.X)
    algorithm = NSGA2(
        pop_size=population,
        sampling=np.array([space.values(genome) for genome in first]) if first else IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=ElementwiseDuplicateElimination(cmp_func=same),
    )
    minimize(problem, algorithm, ("n_eval", evals), seed=seed, verbose=False)
    return problem.populations
