"""Makes prompts.json: what lm-evaluation-harness 0.4.13 asks, in hashes, for every packaged task, and in full for the
invented rows of rows/*.jsonl (tasks whose data is not packaged).

    python3 tests/goldens/lm_eval/make.py --data ASSETS

Needs: lm_eval==0.4.13, datasets, pyarrow, blake3.
"""

import argparse
import importlib.metadata
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "scripts/parity"))

import offline_tasks
from blake3 import blake3


def framed(text):
    data = text.encode("utf-8")
    return len(data).to_bytes(8, "little") + data


def item_bytes(pairs, gold):
    texts = b"".join(framed(context) + framed(continuation) for context, continuation in pairs)
    return len(pairs).to_bytes(8, "little") + texts + b"".join(place.to_bytes(8, "little") for place in gold)


def short(text):
    return blake3(text.encode("utf-8")).hexdigest()[:16]


def hashed(task, assets, shots):
    whole, count, requests, first = blake3(), 0, 0, []
    for part in offline_tasks.load(task, assets):
        for pairs, gold, _ in offline_tasks.items(part, shots):
            whole.update(item_bytes(pairs, gold))
            count, requests = count + 1, requests + len(pairs)
            if len(first) < 3:
                hashes = [[short(context), short(continuation)] for context, continuation in pairs]
                first.append({"requests": hashes, "gold": gold})
    return {"task": task, "shots": shots, "items": count, "requests": requests, "blake3": whole.hexdigest(), "first": first}


def written(task, assets):
    """Contexts and answers of a task whose answers are written."""
    whole, count = blake3(), 0
    (part,) = offline_tasks.load(task, assets)
    for [(context, _)], answers, _ in offline_tasks.items(part):
        whole.update(framed(context) + b"".join(map(framed, answers)))
        count += 1
    return {"task": task, "items": count, "blake3": whole.hexdigest()}


def written_out(task, rows):
    (part,) = offline_tasks.load(task, rows=rows)
    found = []
    for pairs, gold, doc in offline_tasks.items(part):
        item = {"requests": pairs, "gold": gold}
        if task == "truthfulqa_mc2":
            item["gold"] = [place for place, label in enumerate(doc["mc2_targets"]["labels"]) if label == 1]
        if task == "wikitext":
            results = part.process_results(doc, (0.0,))
            item["words"], item["bytes"] = results["word_perplexity"][1], results["byte_perplexity"][1]
        found.append(item)
    return {"task": task, "items": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.path.expanduser("~/.cache/criadero/assets"))
    assets = parser.parse_args().data
    packaged = [hashed(task, assets, 0) for task in offline_tasks.TASKS] + [hashed("mmlu", assets, 5)]
    invented = []
    for path in sorted((HERE / "rows").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        tasks = ["truthfulqa_mc1", "truthfulqa_mc2"] if path.stem == "truthfulqa" else [path.stem]
        invented += [written_out(task, rows) for task in tasks]
    versions = {name: importlib.metadata.version(name) for name in ("lm_eval", "datasets")}
    golden = {"made_by": "lm-evaluation-harness's task objects, through tests/goldens/lm_eval/make.py",
              "versions": versions, "packaged": packaged,
              "written": [written(task, assets) for task in offline_tasks.WRITTEN], "invented": invented}
    (HERE / "prompts.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
