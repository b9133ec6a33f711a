"""A search without crossover and without predictions, as EvoPress does (Sieberling et al., arXiv 2410.14649, algorithm 1), for a front.

A child is a parent after one to three level switches: a gene one step narrower and another one step wider, so that it keeps about the
parent's size. EvoPress searches one size at a time; here parents are drawn from all networks that nothing dominates yet. Sizes come
from the first population.
"""

import random


def level_switches(space, population, evals, seed, score, first):
    """All networks in the order in which they were scored; `score` maps a list of genomes to `{genome: loss}`."""
    generator = random.Random(seed)
    losses = score(first)
    networks = list(dict.fromkeys(first))
    while len(networks) < evals:
        parents = non_dominated(networks, losses, space)
        children = []
        while len(children) < min(population, evals - len(networks)):
            child = switched(space, generator.choice(parents), generator)
            if child not in losses and child not in children:
                children.append(child)
        losses |= score(children)
        networks += children
    return networks


def switched(space, genome, generator):
    values = space.values(genome)
    for _ in range(min(generator.randint(1, 3), generator.randint(1, 3))):
        narrower = [place for place, value in enumerate(values) if value > 0]
        wider = [place for place, value in enumerate(values) if value < space.upper[place]]
        if narrower:
            values[generator.choice(narrower)] -= 1
        if wider:
            values[generator.choice(wider)] += 1
    return space.genome(values)


def non_dominated(genomes, losses, space):
    """Those with a lower loss than every smaller network."""
    front, best = [], float("inf")
    for genome in sorted(genomes, key=lambda genome: (space.params(genome), losses[genome])):
        if losses[genome] < best:
            front.append(genome)
            best = losses[genome]
    return front
