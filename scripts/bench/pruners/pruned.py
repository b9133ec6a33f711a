"""What a method hands back for one size, and what the uniform methods share."""

import dataclasses

import torch

import kept
import parent
from kept import Kept, Shape

CHOICE_WINDOWS = 8  # of the calibration text, to choose between pairs of uniform widths


@dataclasses.dataclass
class Pruned:
    """`tokens` of calibration text were looked at. `biases`: of o_proj and down_proj, each (layers, d)."""

    kept: Kept
    tokens: int
    settings: dict
    biases: tuple | None = None

    def params(self, model):
        return self.kept.params(Shape.of(model.config))

    def facts(self):
        return {"groups": self.kept.groups.sum(1).tolist(), "channels": self.kept.channels.sum(1).tolist(),
                "calibration_tokens": self.tokens, "settings": self.settings}

    def write(self, model, parent_path, out):
        kept.network(model, self.kept, self.biases).save_pretrained(out)
        kept.copy_tokenizer(parent_path, out)


def best_uniform(model, ids, candidates):
    """Of `(widths, kept)` the pair whose network loses least on the calibration text."""

    def loss(candidate):
        with kept.zeroed(model, candidate[1]):
            return parent.loss(model, ids[:CHOICE_WINDOWS])

    candidates = list(candidates)
    return candidates[0] if len(candidates) == 1 else min(candidates, key=loss)


def by_group(scores, shape):
    """Scores of columns of o_proj, or of query heads, summed over each KV group: (k,)."""
    return scores.view(shape.kv_heads, -1).sum(1)


def infinite_outside(scores, layers):
    """Scores (layers, width) with infinity in the layers that a method protects."""
    protected = torch.full_like(scores, torch.inf)
    places = list(layers)
    protected[places] = scores[places]
    return protected
