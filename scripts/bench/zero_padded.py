"""lm-evaluation-harness scoring one network after the other: the supernet with zeros where a genome has nothing.

Needs lm_eval==0.4.13, torch, transformers, accelerate, datasets, pyarrow; no network. The harness's task objects come from
scripts/parity/offline_tasks.py, its model is HFLM on the CPU with all cores.

Zeros in the columns of o_proj and down_proj that read a dropped head or channel, and the supernet's corrected columns in the others, make
the padded network the subnet's equal, and writing two matrices a layer in place is the cheapest way to it: nothing is exported or loaded
between networks.
"""

import os
import pathlib
import sys
import time

os.environ["TQDM_DISABLE"] = "1"  # the harness draws a bar for every task that it builds
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parity"))

import offline_tasks
import safetensors.torch
import torch
from lm_eval.models.huggingface import HFLM

from search_space import genes


class ZeroPadded:
    """A supernet that becomes one subnet after the other, and the harness's questions about it."""

    def __init__(self, model, task, data, places, dtype="float32"):
        """Questions are those at `places` of the task's file, in that order."""
        torch.set_num_threads(os.cpu_count() or 1)
        self.harness = HFLM(pretrained=str(model), device="cpu", dtype=dtype, batch_size=1)
        self.model = self.harness.model
        self.whole = [(layer.self_attn.o_proj.weight.clone(), layer.mlp.down_proj.weight.clone()) for layer in self.model.model.layers]
        corrections = pathlib.Path(model, "corrections.safetensors")
        self.corrected = safetensors.torch.load_file(corrections) if corrections.is_file() else {}
        known = list(questions(task, data))
        self.questions = [known[place] for place in places]

    @torch.no_grad()
    def narrow(self, genome):
        for place, (layer, (heads, width), (output, down)) in enumerate(zip(self.model.model.layers, genes(genome), self.whole, strict=True)):
            for name, matrix, whole, columns in [
                ("self_attn.o_proj", layer.self_attn.o_proj, output, heads * layer.self_attn.head_dim),
                ("mlp.down_proj", layer.mlp.down_proj, down, width),
            ]:
                kept = self.corrected.get(f"model.layers.{place}.{name}.weight@{columns}", whole[:, :columns])
                matrix.weight[:, :columns] = kept.to(matrix.weight.dtype)
                matrix.weight[:, columns:] = 0

    def score(self, genome, batch):
        """Rows `{"log_likelihoods", "correct", "choice_nll"}`, one a question, and the seconds that the harness took for them."""
        self.narrow(genome)
        return self.ask(batch)

    def ask(self, batch):
        """As `score`, of the weights as they are."""
        self.harness.batch_size_per_gpu = batch
        instances = [instance for *_, asked in self.questions for instance in asked]
        start = time.perf_counter()
        answers = iter(self.harness.loglikelihood(instances, disable_tqdm=True))
        seconds = time.perf_counter() - start
        rows = []
        for task, doc, gold, asked in self.questions:
            results = [next(answers) for _ in asked]
            scores = torch.tensor([score for score, _ in results], dtype=torch.float64)
            correct = int(task.process_results(doc, results)["acc"])
            choice_nll = -torch.log_softmax(scores, 0)[gold].item()
            rows.append({"log_likelihoods": scores.tolist(), "correct": correct, "choice_nll": choice_nll})
        return rows, seconds


def questions(task, data):
    """`(task object, document, true choice, requests)` of every question of the file."""
    for part in offline_tasks.load(task, data):
        documents = [(doc, gold) for _, [gold], doc in offline_tasks.items(part)]
        asked = {}
        for instance in part.instances:
            asked.setdefault(instance.doc_id, []).append(instance)
        for (doc, gold), doc_id in zip(documents, sorted(asked), strict=True):
            yield part, doc, gold, sorted(asked[doc_id], key=lambda instance: instance.idx)
