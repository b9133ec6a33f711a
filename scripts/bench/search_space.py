"""A search space as the peer sees it: a vector of whole numbers, one a choice, and the network that it means.

Needs PyYAML. Genome texts, drop order and parameter counts are criadero's own, written down a second time: the
benchmark compares the counts with criadero's.
"""

import json
import pathlib
import random

import yaml


class SearchSpace:
    """Choices of a space's YAML: a depth, then heads and MLP width of every layer, those without a choice left out."""

    def __init__(self, name, model):
        path = pathlib.Path(name)
        path = path if path.is_file() else pathlib.Path("search-spaces", f"{name}.yaml")
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.shape = raw["shape"]
        count = self.shape["layers"]
        if any(bits != [16] for bits in [raw.get("bits", [16]), *(layer.get("bits", [16]) for layer in raw.get("layers", {}).values())]):
            raise SystemExit(f"{path}: the peer has no quantized layers")
        self.heads, self.widths = [[sorted(raw[half])] * count for half in ["heads", "mlp"]]
        for places, choices in raw.get("layers", {}).items():
            first, _, last = str(places).partition("-")
            for layer in range(int(first), int(last or first) + 1):
                self.heads[layer] = sorted(choices.get("heads", self.heads[layer]))
                self.widths[layer] = sorted(choices.get("mlp", self.widths[layer]))
        self.depths = sorted(raw.get("depth", [count]))
        self.drop_order = list(range(count))[::-1]
        card = pathlib.Path(model, "criadero.json")
        if raw.get("drop", "ranking") == "ranking" and card.is_file():
            self.drop_order = json.loads(card.read_text(encoding="utf-8"))["order"]["drop"]
        self.max_params = self._limit(path, raw.get("constraints", {}))
        self.all_choices = [self.depths, *(choices for pair in zip(self.heads, self.widths) for choices in pair)]
        self.free = [place for place, choices in enumerate(self.all_choices) if len(choices) > 1]
        #: The largest value of each variable; the smallest is 0.
        self.upper = [len(self.all_choices[place]) - 1 for place in self.free]

    @staticmethod
    def _limit(path, constraints):
        if not constraints:
            return None
        sign, number = str(constraints.get("params", "")).strip()[:2], str(constraints.get("params", ""))[2:]
        if set(constraints) != {"params"} or sign != "<=":
            raise SystemExit(f"{path}: the peer knows one constraint, `params: \"<= N\"`")
        return float(number)

    def genome(self, values):
        """The text of the network that a vector of places in the lists of choices means."""
        chosen = [choices[-1] for choices in self.all_choices]
        for place, value in zip(self.free, values, strict=True):
            chosen[place] = self.all_choices[place][int(value)]
        dropped = set(self.drop_order[: self.shape["layers"] - chosen[0]])
        pairs = zip(chosen[1::2], chosen[2::2])
        return text([(0, 0) if layer in dropped else pair for layer, pair in enumerate(pairs)])

    def values(self, genome):
        """The vector that means a network of this space whose layers go in its drop order; a dropped layer's places are the last."""
        layers = genes(genome)
        chosen = [sum(pair != (0, 0) for pair in layers)]
        for pair, heads, widths in zip(layers, self.heads, self.widths, strict=True):
            chosen += pair if pair != (0, 0) else (heads[-1], widths[-1])
        return [self.all_choices[place].index(chosen[place]) for place in self.free]

    def parent(self):
        return self.genome(self.upper)

    def smallest(self):
        return self.genome([0] * len(self.upper))

    def over_the_sizes(self, count, seed):
        """`count` networks from the smallest to the parent, about evenly spaced in parameters."""
        generator = random.Random(seed)
        pool = {self.smallest(), self.parent()}
        for _ in range(40 * count):
            share = generator.random()
            pool.add(self.genome([sum(generator.random() < share for _ in range(upper)) for upper in self.upper]))
        low, high = self.params(self.smallest()), self.params(self.parent())
        chosen = []
        for step in range(count):
            wanted = low + (high - low) * step / max(count - 1, 1)
            nearest = min(sorted(pool), key=lambda genome: abs(self.params(genome) - wanted))
            pool.discard(nearest)
            chosen.append(nearest)
        return chosen

    def params(self, genome):
        """Parameters of the mathematical network; a half that is not there has no norm either."""
        hidden, head_dim = self.shape["hidden"], self.shape["head_dim"]
        group = self.shape["heads"] // self.shape["kv_heads"]
        total = hidden + hidden * self.shape["vocab"] * (1 if self.shape.get("tied") else 2)
        for heads, width in genes(genome):
            total += (hidden + 2 * hidden * head_dim * (heads + heads // group)) if heads else 0
            total += (hidden + 3 * hidden * width) if width else 0
        return total

    def violation(self, genome):
        """By how much of its limit a network is too large; 0 or less when it is not."""
        return self.params(genome) / self.max_params - 1.0 if self.max_params else 0.0


def text(layers):
    """`(heads, width)` of each layer as criadero writes a genome: equal layers in a row together."""
    runs = []
    for layer in layers:
        if runs and runs[-1][0] == layer:
            runs[-1][1] += 1
        else:
            runs.append([layer, 1])
    name = lambda heads, width: f"{heads}x{width}" if heads or width else "-"
    return ":".join(name(*layer) + (f"*{count}" if count > 1 else "") for layer, count in runs)


def genes(genome):
    """The layers of a genome's text, `(0, 0)` for a dropped one."""
    layers = []
    for run in genome.split(":"):
        gene, _, count = run.partition("*")
        pair = (0, 0) if gene == "-" else tuple(int(number) for number in gene.split("x"))
        layers += [pair] * int(count or 1)
    return layers
