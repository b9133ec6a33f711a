"""Prunes a parent with every method at every size, and judges all networks on the same questions and the same held-out text.

    python3 scripts/bench/pruners/compare.py --model PARENT --calibration FILE --criadero target/release/criadero \\
        --work DIR --out DIR [--ours NAME=SUPERNET]... [--ours NAME=CHECKPOINT]...

Of a supernet that `criadero rank` made it takes the network of each size that `criadero export --pick "params<=N"` says is best by
its ranking: nothing is searched.

Networks, per-item scores and the held-out text lie under --work, and the same command again makes only what is missing. --out
gets rows.csv (every network on every task), items.json (right answers item by item), summary.txt and accuracy_and_perplexity.png.
With --tune, networks are trained before they are judged, all in the same way: see tune.py. What the parent predicts lies under --work
then, 50 MB a window of 512 tokens. SliceGPT's, which no LLaMA code loads, are left out. With --add, what lies there already stays:
networks of other names that were judged on the same questions.
criadero scores every network but SliceGPT's, which no LLaMA code loads: see sliced_scores.py.

The held-out text is LAMBADA's novels; calibration is another source. Errors of differences are paired by item.

Needs what prune.py needs, and matplotlib; for SliceGPT lm_eval 0.4.13, datasets, pyarrow.
"""

import argparse
import csv
import json
import os
import pathlib
import sys
import time

import torch

import parent
import prune
import summary
import tune
from kept import Shape

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import json_lines
from command import run
from novels import documents

TASKS = ["arc_easy", "piqa", "hellaswag", "sciq", "winogrande", "openbookqa", "boolq"]
SIZES = [0.9, 0.8, 0.75, 0.67]
CACHE = pathlib.Path(os.environ.get("CRIADERO_CACHE", pathlib.Path.home() / ".cache/criadero"))
NOVELS_TOKENS, MAX_LENGTH = 60_000, 1024


class Judge:
    """Scores of networks on tasks and on the held-out text, kept under `work`."""

    def __init__(self, options):
        self.options = options
        #: What networks are scored on: the tasks, and the held-out text.
        self.subjects = [*options.tasks, *(["novels"] if options.text_tokens else [])]
        self.model, self.tokenizer = parent.open_parent(options.model)
        self.shape = Shape.of(self.model.config)
        self.novels = options.work / "novels.jsonl"
        if options.text_tokens and not self.novels.is_file():
            json_lines.write(self.novels, ({"text": text} for text in self.held_out()))

    def held_out(self):
        """Documents of novels, so many tokens in all."""
        tokens = 0
        for document in documents(self.options.assets):
            yield document
            tokens += len(self.tokenizer(document)["input_ids"])
            if tokens >= self.options.text_tokens:
                return

    def pruned(self, method, sizes):
        """Facts of a method's networks by size; makes those that are not there."""
        places = {size: self.options.work / "networks" / f"{method}-{size:g}" for size in sizes}
        missing = {size: place for size, place in places.items() if not (place / "pruned.json").is_file()}
        if missing:
            for size, facts in prune.prune_to(method, missing, self.options.model, self.options.calibration, self.options.windows):
                log(f"{method} {size:g}: {facts['fraction']:.4f} of the parent, {facts['seconds']:.0f} s")
        for size, place in places.items():
            yield size, place, json.loads((place / "pruned.json").read_text(encoding="utf-8"))

    def tuned(self, name, place):
        """Where the network lies once it has seen the tokens of --tune: its name there, and the place."""
        if not self.options.tune or name == "parent":
            return name, place
        name = f"{name}-{self.options.tune}"
        out = self.options.work / "tuned" / name
        if not (out / "tuned.json").is_file():
            lessons = self.options.work / "lessons" / self.options.arithmetic
            facts = tune.tune(place, self.options.model, self.options.calibration, self.options.tune, out, lessons)
            log(f"tuned {name}: {facts['seconds']:.0f} s, {facts['losses'][0]:.3f} to {facts['losses'][-1]:.3f} nats a token")
        return name, out

    def scores(self, name, place):
        """Rows by task of the network in `place`."""
        found = {}
        for task in self.subjects:
            limit = "" if task == "novels" else f"-{self.options.limit}"
            path = self.options.work / "scores" / name / f"{task}{limit}.jsonl"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                log(f"scoring {name} on {task}")
                new = path.with_suffix(".new")
                self.score(place, task, new)
                new.rename(path)
            rows = json_lines.read(path)
            found[task] = sorted((row for row in rows if "index" in row), key=lambda row: row["index"])
        return found

    def score(self, place, task, path):
        config = place / "config.json"
        if config.is_file() and json.loads(config.read_text(encoding="utf-8"))["model_type"] == "sliced_llama":
            import sliced_scores

            scorer = sliced_scores.open_sliced(place)
            rows = (sliced_scores.text_rows(scorer, self.novels, MAX_LENGTH) if task == "novels" else
                    sliced_scores.task_rows(scorer, task, self.options.assets, self.options.limit))
            json_lines.write(path, rows)
            return
        command = ["eval", place, "--json", "--per-item", path]
        command += ["--arithmetic", self.options.arithmetic, "--threads", self.options.threads]
        command += ["--task", self.novels, "--max-length", MAX_LENGTH] if task == "novels" else ["--task", task, "--limit", self.options.limit]
        self.run(command)

    def run(self, arguments):
        """Runs a command of criadero's, which must succeed."""
        run([self.options.criadero, *arguments])

    def text_tokens(self):
        """Scored tokens of each held-out document."""
        return [len(self.tokenizer(row["text"], add_special_tokens=False)["input_ids"])
                for row in json_lines.read(self.novels)]

    def networks(self):
        """`(name, method, size, params, place)` of all that is judged, the parent first."""
        yield "parent", "parent", 1.0, self.shape.params, pathlib.Path(self.options.model)
        for method in self.options.methods:
            for size, place, facts in self.pruned(method, self.options.sizes):
                yield f"{method}-{size:g}", method, size, facts["params"], place
        for ours in self.options.ours:
            name, _, path = ours.partition("=")
            yield from self.own(name, pathlib.Path(path))

    def own(self, name, path):
        """A checkpoint, or the networks of a supernet that its ranking says are best at each size."""
        if not (path / "criadero.json").is_file():
            params = params_of(path, self.shape)
            yield f"{name}-{params}", name, self.nearest(params), params, path
            return
        for size in self.options.sizes:
            place = self.options.work / "networks" / f"{name}-{size:g}"
            if not (place / "config.json").is_file():
                limit = f"params<={int(size * self.shape.params)}"
                self.run(["export", path, "--space", self.options.space, "--pick", limit, "--format", "hf", "--dtype", "f32",
                          "--out", place])
            yield f"{name}-{size:g}", name, size, params_of(place, self.shape), place

    def nearest(self, params):
        return min([1.0, *self.options.sizes], key=lambda size: abs(size - params / self.shape.params))


def params_of(path, shape):
    """Parameters of a checkpoint: of its tensors, without structures that are all zero."""
    from safetensors import safe_open

    total = 0
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names = set(tensors.keys())
            for name in names - ({"lm_head.weight"} if shape.tied else set()):
                total += torch.Size(tensors.get_slice(name).get_shape()).numel()
            for name in names:
                if name.endswith("o_proj.weight"):
                    alive = (tensors.get_tensor(name) != 0).any(0).view(-1, shape.heads // shape.kv_heads * shape.head_dim).any(1)
                    total -= int((~alive).sum()) * shape.group + (0 if alive.any() else shape.hidden)
                if name.endswith("down_proj.weight"):
                    alive = (tensors.get_tensor(name) != 0).any(0)
                    total -= int((~alive).sum()) * shape.channel + (0 if alive.any() else shape.hidden)
    return total


def earlier(out, tasks):
    """The networks that an earlier run left in `out`, by name; those tasks of theirs that are asked for."""
    items = json.loads((out / "items.json").read_text(encoding="utf-8"))
    found = {}
    with open(out / "rows.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = row["network"]
            fractions = float(row["fraction"]), float(row["fraction_of_layers"])
            own = {task: items[name][task] for task in tasks}
            found[name] = summary.Network(name, row["method"], float(row["size"]), int(row["params"]), *fractions, own)
    return found


def log(line):
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def answers(rows):
    """Right answers item by item, by metric, as strings of 0 and 1."""
    fields = {"accuracy": "correct", "acc_norm": "correct_norm"}
    return {metric: "".join(str(row[field]) for row in rows) for metric, field in fields.items() if rows[0][field] is not None}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="Hugging Face directory of the parent, float32")
    parser.add_argument("--calibration", required=True, help="a text")
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--methods", nargs="*", default=prune.METHODS, choices=prune.METHODS)
    parser.add_argument("--sizes", nargs="+", type=float, default=SIZES)
    parser.add_argument("--windows", type=int, help="calibration windows of 512 tokens; by default each method's own number")
    parser.add_argument("--tasks", nargs="*", default=TASKS)
    parser.add_argument("--limit", type=int, default=500, help="questions a task")
    parser.add_argument("--text-tokens", type=int, default=NOVELS_TOKENS, help="of the held-out novels; 0 for none")
    parser.add_argument("--metric", default="accuracy", choices=["accuracy", "acc_norm"], help="of the summary and the picture")
    parser.add_argument("--ours", action="append", default=[], metavar="NAME=PATH", help="a supernet, or a checkpoint")
    parser.add_argument("--tune", type=int, default=0, metavar="TOKENS", help="to train each network by first")
    parser.add_argument("--add", action="store_true", help="to the networks that --out holds")
    parser.add_argument("--space", default="smollm2-135m", help="what supernets were ranked with")
    parser.add_argument("--assets", type=pathlib.Path, default=CACHE / "assets")
    parser.add_argument("--arithmetic", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.tune:
        options.methods = [method for method in options.methods if method != "slicegpt"]
    torch.set_num_threads(options.threads)
    parent.arithmetic(options.arithmetic)
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)

    judge = Judge(options)
    tokens = judge.text_tokens() if options.text_tokens else []
    found = earlier(options.out, judge.subjects) if options.add else {}
    for name, method, size, params, place in judge.networks():
        scores = judge.scores(*judge.tuned(name, place))
        items = {task: answers(rows) for task, rows in scores.items() if task != "novels"}
        if options.text_tokens:
            items["novels"] = {"nll": [round(-sum(row["log_likelihoods"]), 4) for row in scores["novels"]], "tokens": tokens}
        shape = judge.shape
        fractions = params / shape.params, (params - shape.ends) / (shape.params - shape.ends)
        found[name] = summary.Network(name, method, size, params, *fractions, items)
    networks = list(found.values())

    with open(options.out / "rows.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["network", "method", "size", "params", "fraction", "fraction_of_layers", "task", "metric", "items", "value", "stderr"])
        for network in networks:
            writer.writerows(network.rows())
    items = {network.name: network.items for network in networks}
    (options.out / "items.json").write_text(json.dumps(items) + "\n", encoding="utf-8")
    text = summary.text(networks, options.metric)
    (options.out / "summary.txt").write_text(text, encoding="utf-8")
    summary.picture(networks, options.metric, options.out / "accuracy_and_perplexity.png")
    print(text, end="")


if __name__ == "__main__":
    main()
