"""Trains what a pruner left, to match the parent's predictions on a text: the same steps for every method.

The loss is the divergence from the parent's next-token distributions (Hinton et al., arXiv 1503.02531, temperature 1), as Minitron
(arXiv 2407.14679) retrains; AdamW, a linear warm-up and a linear way back to 0. Windows are drawn from all of the text.

Structures that are gone stay so: where their rows and columns are zero, so are their gradients.
"""

import json
import os
import pathlib
import time

import torch
from transformers import AutoModelForCausalLM

import kept
import parent

LENGTH, WINDOWS_A_STEP = 512, 4
LEARNING_RATE, WARM_UP, CLIP = 2e-4, 5, 1.0


def tune(network_path, parent_path, text, tokens, out, lessons):
    """Writes the trained network to `out`, and what it took beside it. `lessons` keeps what the parent predicts, for the next network."""
    model, tokenizer = parent.open_parent(parent_path)
    # Networks of several widths bring their own code.
    network = AutoModelForCausalLM.from_pretrained(network_path, dtype=torch.float32, trust_remote_code=True)
    ids = tokenizer(pathlib.Path(text).read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)["input_ids"]
    start = time.perf_counter()
    teacher = Teacher(model, lessons)
    losses = train(network, teacher, torch.tensor(ids[: len(ids) // LENGTH * LENGTH]).view(-1, LENGTH), tokens // (LENGTH * WINDOWS_A_STEP))
    network.save_pretrained(out)
    kept.copy_tokenizer(parent_path, out)
    facts = {"tokens": len(losses) * WINDOWS_A_STEP * LENGTH, "seconds": round(time.perf_counter() - start, 1), "learning_rate": LEARNING_RATE,
             "losses": [round(loss, 4) for loss in losses]}
    pathlib.Path(out, "tuned.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return facts


class Teacher:
    """What `model` predicts in windows of a text. Every network sees the same ones: `lessons`, a directory of one model, text and
    arithmetic, keeps them."""

    def __init__(self, model, lessons=None):
        self.model, self.lessons = model, lessons

    @torch.no_grad()
    def log_probabilities(self, place, window):
        """Of the next token at every position (1, t, v) of the window (1, t) at `place` of the text."""
        path = self.lessons and self.lessons / f"{place}.pt"
        if path and path.is_file():
            logits = torch.load(path)
        else:
            with parent.products():
                logits = self.model(window, use_cache=False).logits
            if path:
                self.lessons.mkdir(parents=True, exist_ok=True)
                new = path.with_suffix(f".{os.getpid()}")
                torch.save(logits, new)
                new.rename(path)
        return logits.float().log_softmax(-1)


def train(network, teacher, ids, steps, seed=1):
    """Losses of the steps on windows of `ids` (windows, t)."""
    for name, parameter in network.named_parameters():
        # LLaMA code knows biases of all matrices or of none; those that a method did not give stay zero.
        parameter.requires_grad_(not name.endswith(".bias") or bool(parameter.any()))
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(ids), generator=generator) for _ in range(-(-steps * WINDOWS_A_STEP // len(ids)))])
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min((step + 1) / WARM_UP, (steps - step) / max(steps - WARM_UP, 1)))
    losses = []
    for windows in order[: steps * WINDOWS_A_STEP].split(WINDOWS_A_STEP):
        losses.append(step_loss(network, teacher, ids, windows.tolist()))
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimiser.step()
        optimiser.zero_grad()
        rate.step()
    return losses


def step_loss(network, teacher, ids, windows):
    """The divergence in nats a token, whose gradients lie in the network; a window at a time, since logits are large."""
    total = 0.0
    for place in windows:
        window = ids[place : place + 1]
        wanted = teacher.log_probabilities(place, window)
        with parent.products():
            found = network(window, use_cache=False).logits
        loss = torch.nn.functional.kl_div(found.float().log_softmax(-1), wanted, reduction="sum", log_target=True)
        loss = loss / (window.numel() * len(windows))
        loss.backward()
        total += loss.item()
    return total
