"""What a search had found by when: the held-out hypervolume of its front after every population.

Needs numpy and moocore; matplotlib for the picture. Both sides are judged alike: the front is the search split's
non-dominated networks so far, measured on held-out items, normalised as criadero does (accuracy from chance to 1,
size to 1.05 times the parent's), reference point (1, 1).
"""

from dataclasses import dataclass

import moocore
import numpy as np

# Okabe and Ito's colours, told apart with any kind of colour vision; the peer is black.
COLOURS = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
DASHES = ["-", "--", "-.", ":"]


@dataclass
class Network:
    """One evaluated network, and the population that it came with."""

    population: int
    genome: str
    choice_nll: float
    params: int
    violation: float
    accuracy: float
    # Scored on all search items: a network that was dropped on the way is on no front.
    whole: bool = True


@dataclass
class Step:
    """A search after one more population."""

    population: int
    evaluations: int
    seconds: float
    points: int
    hypervolume: float


class Trajectory:
    """A search of one side and seed: its networks in order, and the seconds on its clock after each population."""

    def __init__(self, side, seed, networks, clock):
        self.side, self.seed, self.networks, self.clock = side, seed, networks, clock
        self.steps = []

    def fronts(self):
        """Per population, the non-dominated feasible networks so far."""
        for population in range(len(self.clock)):
            yield non_dominated([one for one in self.networks if one.population <= population and one.violation <= 0 and one.whole])

    def judge(self, held_out, chance, parent_params):
        """Fills `steps`; `held_out` maps genomes to accuracies."""
        for population, front in enumerate(self.fronts()):
            evaluations = sum(one.population <= population for one in self.networks)
            volume = hypervolume([((1 - held_out[one.genome]) / (1 - chance), one.params / (1.05 * parent_params)) for one in front])
            self.steps.append(Step(population, evaluations, self.clock[population], len(front), volume))

    def reaches(self, volume):
        """The first step with this hypervolume, or None. Both sides' sums are rounded alike, so a hair's breadth is allowed."""
        return next((step for step in self.steps if step.hypervolume >= volume - 1e-12), None)


def non_dominated(networks):
    def beats(a, b):
        return a.choice_nll <= b.choice_nll and a.params <= b.params and (a.choice_nll, a.params) != (b.choice_nll, b.params)

    return [one for one in networks if not any(beats(other, one) for other in networks)]


def hypervolume(points):
    inside = [point for point in points if max(point) < 1.0]
    return float(moocore.hypervolume(np.array(inside), ref=np.array([1.0, 1.0]))) if inside else 0.0


def draw(trajectories, title, path):
    """Hypervolume against seconds: a line a seed, a colour and a dash a side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    sides = list(dict.fromkeys(one.side for one in trajectories))
    styles = {side: ("black" if side == "peer" else COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]) for place, side in enumerate(sides)}
    last = max(one.clock[-1] for one in trajectories)
    for side in sides:
        colour, dash = styles[side]
        for place, one in enumerate(line for line in trajectories if line.side == side):
            seconds = [step.seconds for step in one.steps]
            volumes = [step.hypervolume for step in one.steps]
            label = {"label": "pymoo NSGA-II + lm-evaluation-harness" if side == "peer" else f"criadero, {side}"} if place == 0 else {}
            # What was found stays found: a thin line goes on to the right edge.
            axes.step([seconds[-1], 1.3 * last], [volumes[-1]] * 2, color=colour, lw=0.8, alpha=0.35)
            axes.step(seconds, volumes, where="post", color=colour, ls=dash, lw=1.8, **label)
            axes.plot(seconds, volumes, ls="", marker="s" if side == "peer" else "o", ms=4, color=colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axes.set_xlabel("seconds on the clock (log scale; a mark is a population measured)")
    axes.set_ylabel("held-out hypervolume (accuracy × size, normalised)")
    axes.set_title(title, fontsize=10)
    axes.grid(True, which="both", lw=0.3, alpha=0.5)
    axes.legend(loc="best", frameon=True, fontsize=9)
    for side in ["top", "right"]:
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
