#!/usr/bin/env python3
"""Writes a made-up run, front.json and evaluations.csv, for tests and for looking at pictures.

The networks are SmolLM2-135M's family; losses and accuracies follow a smooth law of size plus noise, so the front has
the shape, the unevenness and the error bars of a real one without a real search. Python 3.9 or later, no packages.

    make_run.py --out DIR [--layers 30] [--evaluations 96] [--keep N] [--seed 1] [--noise 0.03] [--random]
"""

import argparse
import csv
import json
import math
import random
from pathlib import Path

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MLP, VOCAB = 576, 9, 3, 64, 1536, 49152
SEARCH_ITEMS, HELD_OUT_ITEMS = 64, 300


def params(genes):
    """Tied embedding, norms, attention with one key/value head per three query heads, gated MLP."""
    total = VOCAB * HIDDEN + HIDDEN
    for heads, mlp in genes:
        if heads:
            total += HIDDEN + 2 * HIDDEN * heads * HEAD_DIM + 2 * HIDDEN * heads // 3 * HEAD_DIM
        if mlp:
            total += HIDDEN + 3 * HIDDEN * mlp
    return total


def text(genes):
    """The one-line form of a genome."""
    runs = []
    for gene in genes:
        name = "-" if gene == (0, 0) else f"{gene[0]}x{gene[1]}"
        if runs and runs[-1][0] == name:
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
    return ":".join(name if count == 1 else f"{name}*{count}" for name, count in runs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=96)
    parser.add_argument("--keep", type=int, help="thin the front to so many points")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--random", action="store_true", help="a worse search: later networks do not learn from earlier ones")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    layers = options.layers
    # Layers in the middle matter least, the first ones most.
    worth = [2.5 if i < 2 else 1.6 if i == layers - 1 else 0.6 + abs(i / max(layers - 1, 1) - 0.6) for i in range(layers)]
    parent = [(HEADS, MLP)] * layers

    def sample(share, learned):
        genes = []
        for weight in worth:
            keep = share if not learned else min(1.0, share * (0.65 + 0.35 * weight))
            if draw.random() > keep + 0.55:
                genes.append((0, 0))
                continue
            heads = HEADS if draw.random() < keep else draw.choice([3, 6])
            mlp = MLP if draw.random() < keep else draw.choice([0, 512, 768, 1024, 1280])
            genes.append((heads, mlp))
        return genes

    def lost(genes):
        """How much worse than the parent, 0 to about 1."""
        def of(heads, mlp, weight):
            return weight * (0.4 * (1 - heads / HEADS) ** 1.5 + 0.6 * (1 - mlp / MLP) ** 1.5)
        return sum(of(h, m, w) for (h, m), w in zip(genes, worth)) / sum(worth)

    def loss(genes, noise):
        return 1.12 + 0.95 * lost(genes) ** 0.8 + draw.gauss(0, noise)

    def accuracy(genes, items):
        true = 0.25 + 0.265 * max(0.0, 1 - lost(genes)) ** 2.2
        return sum(draw.random() < true for _ in range(items)) / items

    rows, seen = [], set()
    while len(rows) < options.evaluations:
        progress = len(rows) / options.evaluations
        genes = parent if not rows else sample(draw.uniform(0.3, 0.97), not options.random and draw.random() < progress + 0.2)
        if text(genes) in seen and len(seen) < 40:
            continue
        seen.add(text(genes))
        failed = "logits are not finite in layer 3" if len(rows) == 17 else None
        rows.append({"genes": genes, "params": params(genes), "nll": loss(genes, options.noise if rows else 0.0),
                     "acc": accuracy(genes, SEARCH_ITEMS) if rows else 0.515625, "failed": failed})

    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "evaluations.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "population", "genome", "choice_nll:arc_easy", "params", "violation",
                        "search_accuracy:arc_easy", "failed"])
        for number, row in enumerate(rows):
            scores = ["", "", 0, ""] if row["failed"] else [row["nll"], row["params"], 0, row["acc"]]
            table.writerow([number, number // 16, text(row["genes"])] + scores + [row["failed"] or ""])

    alive = [i for i, row in enumerate(rows) if not row["failed"]]
    front = [i for i in alive if not any(
        rows[j]["nll"] <= rows[i]["nll"] and rows[j]["params"] <= rows[i]["params"]
        and (rows[j]["nll"], rows[j]["params"]) != (rows[i]["nll"], rows[i]["params"]) for j in alive)]
    front.sort(key=lambda i: (rows[i]["params"], i))
    if options.keep:
        steps = max(options.keep - 1, 1)
        front = [front[round(k * (len(front) - 1) / steps)] for k in range(min(options.keep, len(front)))]

    def measured(i):
        row = rows[i]
        acc = accuracy(row["genes"], HELD_OUT_ITEMS) if i else 0.51
        nll = loss(row["genes"], options.noise / 2)
        return {"acc": acc, "nll": nll, "tps": 812 * (params(parent) / row["params"]) ** 0.8 * draw.uniform(0.93, 1.05)}

    base = measured(0)
    base["tps"] = 812.0
    scores = {i: measured(i) if i else base for i in front}

    def point(i, score, dominated):
        row = rows[i]
        def held_out(name, value, stderr, delta):
            return {"name": name, "items": HELD_OUT_ITEMS, "value": value, "stderr": stderr, "delta": delta,
                    "delta_stderr": 0.0 if i == 0 else stderr * min(1.0, 0.2 + 2 * lost(row["genes"]))}
        acc, nll = score["acc"], score["nll"]
        return {
            "id": i, "genome": text(row["genes"]), "objectives": [row["nll"], float(row["params"])],
            "params": row["params"], "weight_bytes": 2 * row["params"] + 1_716_224, "prefill_tps": score["tps"],
            "held_out": [
                held_out("accuracy:arc_easy", acc, math.sqrt(acc * (1 - acc) / HELD_OUT_ITEMS), acc - base["acc"]),
                held_out("choice_nll:arc_easy", nll, 0.021, nll - base["nll"]),
            ],
            "dominated_on_held_out": dominated,
        }

    def beaten(i):
        keys = [(-scores[j]["acc"], scores[j]["nll"], rows[j]["params"]) for j in front if j != i]
        mine = (-scores[i]["acc"], scores[i]["nll"], rows[i]["params"])
        return any(all(a <= b for a, b in zip(key, mine)) and key != mine for key in keys)

    result = {
        "shape": {"layers": layers, "hidden": HIDDEN, "heads": HEADS, "kv_heads": KV_HEADS, "head_dim": HEAD_DIM,
                  "mlp": MLP, "vocab": VOCAB, "tied": True},
        "model": "SmolLM2-135M",
        "objectives": [{"name": "choice_nll:arc_easy", "unit": "nats per item", "maximize": False},
                       {"name": "params", "unit": "parameters", "maximize": False}],
        "parent": point(0, base, False),
        "points": [point(i, scores[i], beaten(i)) for i in front],
        "chance": [0.25],
        "hypervolume": 0.137,
        "evaluations": len(rows),
    }
    (options.out / "front.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
