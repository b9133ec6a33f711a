"""Scores of a network that criadero cannot load, on the requests that criadero asks.

The requests are lm-evaluation-harness's own, as scripts/parity/offline_tasks.py makes them; criadero's are shown equal to them
there. Rows look like those of `criadero eval --per-item`. Run as a program, it scores a plain LLaMA and compares with
criadero's rows of it:

    python3 scripts/bench/pruners/sliced_scores.py --model PARENT --task arc_easy --limit 100 --assets DIR --rows FILE

Needs lm_eval 0.4.13, datasets, pyarrow.
"""

import argparse
import os
import pathlib
import sys

import torch

import parent

os.environ["TQDM_DISABLE"] = "1"  # the harness and the data sets draw bars
sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[2] / "parity")]
import json_lines

BATCH_TOKENS = 2048


class Scorer:
    """`states(ids)` of a network enter its `head`; sequences are padded behind their end, where nothing looks."""

    def __init__(self, states, head, tokenizer):
        self.states, self.head, self.tokenizer = states, head, tokenizer
        self.prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id

    def encode(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def pair(self, context, continuation):
        """Ids and how many of the last are scored, as the harness's `_encode_pair` has them."""
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        whole = self.encode(context + continuation)
        return whole, len(whole) - len(self.encode(context))

    def windows(self, text, length):
        """The same of a document's disjoint windows, the first behind a prefix token."""
        ids, done = [self.prefix, *self.encode(text)], 0
        while done + 1 < len(ids):
            end = min(done + length, len(ids) - 1)
            yield ids[max(end - length, 0) : end + 1], end - done
            done = end

    @torch.no_grad()
    def log_likelihoods(self, requests):
        """Of each `(ids, scored)`: the sum over its last `scored` ids."""
        order = sorted(range(len(requests)), key=lambda place: len(requests[place][0]))
        results = [0.0] * len(requests)
        while order:
            longest = len(requests[order[-1]][0])
            batch, order = order[-max(1, BATCH_TOKENS // longest) :], order[: -max(1, BATCH_TOKENS // longest)]
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            for row, place in enumerate(batch):
                ids[row, : len(requests[place][0])] = torch.tensor(requests[place][0])
            with parent.products():
                states = self.states(ids[:, :-1])
            for row, place in enumerate(batch):
                own, scored = requests[place]
                with parent.products():
                    logits = self.head(states[row, len(own) - 1 - scored : len(own) - 1])
                chosen = torch.log_softmax(logits.float(), -1).gather(1, torch.tensor(own[-scored:])[:, None])
                results[place] = chosen.double().sum().item()
        return results


def task_rows(scorer, task, assets, limit):
    """A row a question."""
    import offline_tasks

    [task_object] = offline_tasks.load(task, assets)
    items = list(offline_tasks.items(task_object, limit=limit))
    scores = iter(scorer.log_likelihoods([scorer.pair(*request) for requests, _, _ in items for request in requests]))
    for index, (requests, _, doc) in enumerate(items):
        found = [next(scores) for _ in requests]
        results = task_object.process_results(doc, [(score, False) for score in found])
        yield {"index": index, "log_likelihoods": found, "correct": int(results["acc"]),
               "correct_norm": int(results["acc_norm"]) if "acc_norm" in results else None}


def text_rows(scorer, path, length):
    """A row a document of a JSONL file of `{"text"}`, with a score for each of its windows."""
    documents = [row["text"] for row in json_lines.read(path)]
    windows = [list(scorer.windows(document, length)) for document in documents]
    scores = iter(scorer.log_likelihoods([window for own in windows for window in own]))
    for index, own in enumerate(windows):
        yield {"index": index, "log_likelihoods": [next(scores) for _ in own]}


def open_sliced(path):
    import slicegpt
    from transformers import PreTrainedTokenizerFast

    network = slicegpt.SlicedLlama.open(path)
    # Not AutoTokenizer: the config beside it names a family that transformers does not know.
    return Scorer(network.states, network.head, PreTrainedTokenizerFast.from_pretrained(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a plain LLaMA")
    parser.add_argument("--task", required=True, help="a task, or a JSONL file of texts")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--assets")
    parser.add_argument("--rows", required=True, type=pathlib.Path, help="of `criadero eval --per-item`")
    parser.add_argument("--arithmetic", default="f32", choices=["bf16", "f32"])
    options = parser.parse_args()
    torch.set_num_threads(2)
    parent.arithmetic(options.arithmetic)
    model, tokenizer = parent.open_parent(options.model)
    scorer = Scorer(lambda ids: model.model(ids, use_cache=False).last_hidden_state, model.lm_head, tokenizer)
    texts = options.task.endswith(".jsonl")
    ours = list(text_rows(scorer, options.task, options.max_length) if texts else task_rows(scorer, options.task, options.assets, options.limit))
    theirs = [row for row in json_lines.read(options.rows) if "index" in row]
    assert len(ours) == len(theirs), f"{len(ours)} rows, criadero has {len(theirs)}"
    pairs = list(zip(ours, theirs, strict=True))
    largest = max(abs(a - b) for one, other in pairs for a, b in zip(one["log_likelihoods"], other["log_likelihoods"], strict=True))
    answers = "" if texts else f", {sum(one['correct'] != other['correct'] for one, other in pairs)} other answers"
    print(f"{len(pairs)} items: largest difference {largest:.2e} nats{answers}")


if __name__ == "__main__":
    main()
