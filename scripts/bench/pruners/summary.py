"""Accuracies, perplexities and their paired differences, as a table and a picture."""

import dataclasses
import math
import statistics

# Six of ten of its answers are yes, and whoever always says so gets more than the parent does: means are given without it, too.
CONSTANT = "boolq"
# Of the parent: networks that differ by less are of one size, whatever size was asked for. Whole layers make coarse steps.
NEAR = 0.001


@dataclasses.dataclass
class Network:
    """`items`: by task the right answers as a string of 0 and 1; of `novels` each document's NLL and tokens."""

    name: str
    method: str
    size: float
    params: int
    fraction: float
    fraction_of_layers: float
    items: dict

    def answers(self, metric, but=None):
        """By task, a 0 or 1 an item, of all tasks but one. A task without the metric has its accuracy."""
        return {task: [int(bit) for bit in scores.get(metric, scores["accuracy"])]
                for task, scores in self.items.items() if task not in ("novels", but)}

    def accuracy(self, metric, but=None):
        """The mean over the tasks but one, and its standard error."""
        return mean_over_tasks(self.answers(metric, but))

    def nll(self):
        """Nats a token of the held-out text, and its standard error over documents."""
        scores = self.items["novels"]
        nll = sum(scores["nll"]) / sum(scores["tokens"])
        return nll, error_of_sum(over - nll * count for over, count in zip(scores["nll"], scores["tokens"])) / sum(scores["tokens"])

    def rows(self):
        """Of the CSV."""
        head = [self.name, self.method, self.size, self.params, f"{self.fraction:.6f}", f"{self.fraction_of_layers:.6f}"]
        for task, scores in self.items.items():
            if task == "novels":
                nll, error = self.nll()
                yield [*head, task, "nll", len(scores["nll"]), f"{nll:.6f}", f"{error:.6f}"]
                yield [*head, task, "perplexity", len(scores["nll"]), f"{math.exp(nll):.4f}", f"{math.exp(nll) * error:.4f}"]
                continue
            for metric, answers in scores.items():
                value, error = mean_over_tasks({task: [int(bit) for bit in answers]})
                yield [*head, task, metric, len(answers), f"{value:.6f}", f"{error:.6f}"]


def mean_over_tasks(values):
    """Mean over tasks of the mean over items, and its standard error. `values`: by task a number an item."""
    means = [statistics.fmean(items) for items in values.values()]
    squares = sum(statistics.variance(items) / len(items) for items in values.values() if len(items) > 1)
    return statistics.fmean(means), math.sqrt(squares) / len(means)


def error_of_sum(values):
    values = list(values)
    return math.sqrt(len(values) * statistics.variance(values)) if len(values) > 1 else math.nan


def accuracy_difference(one, other, metric, but=None):
    """Of two networks on the same items of all tasks but one, with its paired standard error."""
    ours, theirs = one.answers(metric, but), other.answers(metric, but)
    return mean_over_tasks({task: [a - b for a, b in zip(ours[task], theirs[task], strict=True)] for task in ours})


def nll_difference(one, other):
    """Nats a token, with the standard error paired by document."""
    ours, theirs, tokens = one.items["novels"]["nll"], other.items["novels"]["nll"], one.items["novels"]["tokens"]
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = sum(differences) / sum(tokens)
    return mean, error_of_sum(over - mean * count for over, count in zip(differences, tokens)) / sum(tokens)


def text(networks, metric):
    """A table of all networks, and for each size tables of differences, row minus column, with all networks that are of its size."""
    parts = [f"mean {metric} over tasks; nll in nats a token of held-out novels; errors are standard errors\n\n", overview(networks, metric)]
    for size in sorted({network.size for network in networks}, reverse=True):
        group = [network for network in networks if network.size == size]
        if len(group) < 2:
            continue
        near = [network.fraction for network in group]
        group = [network for network in networks if any(abs(network.fraction - fraction) < NEAR for fraction in near)]
        for but in left_out(group[0], metric):
            difference = lambda one, other: accuracy_difference(one, other, metric, but)
            without = f" without {but}" if but else ""
            parts.append(f"\nsize {size:g}: {metric}{without}, row minus column, points ± paired error\n" + matrix(group, difference, 100, 1))
        if "novels" in group[0].items:
            parts.append(f"\nsize {size:g}: nll, row minus column ± paired error\n" + matrix(group, nll_difference, 1, 3))
    return "".join(parts)


def left_out(network, metric):
    """What means are taken without: nothing, and then the task that a constant answer does well on."""
    tasks = list(network.answers(metric))
    return ([None] if tasks else []) + ([CONSTANT] if CONSTANT in tasks and len(tasks) > 1 else [])


def overview(networks, metric):
    tasks = [task for task in networks[0].items if task != "novels"]
    ends = ["nll", "perplexity"] if "novels" in networks[0].items else []
    means = left_out(networks[0], metric)
    rows = [["network", "size", "params", "of all", "of layers", *(f"without {but}" if but else "mean" for but in means), *tasks, *ends]]
    for network in sorted(networks, key=lambda network: (-network.size, network.method)):
        row = [network.name, f"{network.size:g}", f"{network.params:,}", f"{network.fraction:.4f}", f"{network.fraction_of_layers:.4f}"]
        if tasks:
            row += ["{:.4f} ± {:.4f}".format(*network.accuracy(metric, but)) for but in means]
            row += [f"{statistics.fmean(answers):.3f}" for answers in network.answers(metric).values()]
        if "novels" in network.items:
            nll, error = network.nll()
            row += [f"{nll:.4f} ± {error:.4f}", f"{math.exp(nll):.2f}"]
        rows.append(row)
    return aligned(rows)


def matrix(group, difference, scale, digits):
    rows = [["", *(network.name for network in group)]]
    for one in group:
        row = [one.name]
        for other in group:
            value, error = difference(one, other)
            row.append("." if one is other else f"{scale * value:+.{digits}f} ± {scale * error:.{digits}f}")
        rows.append(row)
    return aligned(rows)


def aligned(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = lambda row: "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
    return "".join(line(row).rstrip() + "\n" for row in rows)


def picture(networks, metric, path):
    """Accuracy, without the task that a constant answers well, and perplexity against size, a line a method that begins at the parent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    whole = [network for network in networks if network.method == "parent"]
    but = (left_out(networks[0], metric) or [None])[-1]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5.5), layout="constrained")
    for method in dict.fromkeys(network.method for network in networks if network.method != "parent"):
        line = sorted([*whole, *(network for network in networks if network.method == method)], key=lambda network: network.params)
        sizes = [network.params / 1e6 for network in line]
        if line[0].answers(metric):
            found = [network.accuracy(metric, but) for network in line]
            left.errorbar(sizes, [value for value, _ in found], [error for _, error in found], marker="o", capsize=2, label=method)
        if "novels" in line[0].items:
            right.plot(sizes, [math.exp(network.nll()[0]) for network in line], marker="o", label=method)
    left.set(xlabel="million parameters", ylabel=f"mean {metric}" + (f" without {but}" if but else "") + ", one standard error")
    right.set(xlabel="million parameters", ylabel="perplexity of held-out novels", yscale="log")
    for axes in [left, right]:
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
