"""Draws results/bench-evaluator/growth.png from the tables that `cargo bench --bench evaluator` writes there.

    python3 scripts/bench/evaluator_plot.py [DIR]

Needs matplotlib.
"""

import csv
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "results/bench-evaluator")
    growth, population = rows(folder / "growth.csv"), rows(folder / "population.csv")
    figure, panels = pyplot.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    for panel, (axis, label) in zip(panels, [("items", "questions"), ("layers", "layers kept"), ("networks", "random networks together")]):
        points = [(int(row["value"]), float(row["seconds"])) for row in growth if row["axis"] == axis]
        panel.plot(*zip(*points), color="#0072B2", marker="o", ms=4)
        panel.set(xlabel=label, ylabel="seconds", xlim=(0, None), ylim=(0, None))
    for kind, colour, dash in [("random", "#D55E00", "-"), ("converged", "#009E73", "--")]:
        points = [(int(row["population"]), float(row["seconds_per_network"]) / float(row["seconds_alone"])) for row in population if row["kind"] == kind]
        panels[3].plot(*zip(*points), color=colour, ls=dash, marker="o", ms=4, label=kind)
    panels[3].set(xlabel="networks of a population", ylabel="time each, together / alone", xscale="log", ylim=(0, 1.1))
    panels[3].legend(frameon=False)
    for panel in panels:
        panel.grid(lw=0.3, alpha=0.5)
        for side in ["top", "right"]:
            panel.spines[side].set_visible(False)
    figure.suptitle("SmolLM2-135M on ARC-Easy", fontsize=10)
    figure.savefig(folder / "growth.png", dpi=130)


if __name__ == "__main__":
    main()
