"""Optimisation steps of a LLaMA in PyTorch, as transformers trains it, and the tokens a second of each.

    python3 scripts/bench/torch_trainer.py --model DIR --out DIR [--mode full] [--batch 1] [--length 1024] [--steps 5]

transformers' LlamaForCausalLM in float32 on the CPU with all cores: sdpa attention, the model's own loss over every next token,
gradients clipped to a norm of 1, AdamW. Both of PyTorch's ways to take an AdamW step that suit the CPU are timed on the first
gradients, and the faster is used. Tokens are random and each sequence starts at position 0.

Modes: `full` trains all parameters; `lora` trains adapters of rank 16 on the seven matrices of each layer, the rest frozen;
`-checkpointed` behind either keeps only each layer's input for the backward pass, which computes the rest again; `-bf16` runs
products in bfloat16 under torch.autocast, parameters and moments staying float32.

Writes timings.csv (step, seconds, tokens_per_second; a step is forward, backward, clipping and update) and settings.json to
--out. Needs torch and transformers of 5.23 or later; no network.
"""

import argparse
import csv
import json
import os
import pathlib
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

MODES = ["full", "full-checkpointed", "full-bf16", "lora", "lora-checkpointed"]
MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK, ALPHA = 16, 32.0
LEARNING_RATE = 1e-5
CLIP = 1.0


class Adapted(torch.nn.Module):
    """A frozen matrix and a trained product of two thin ones beside it: W x + (alpha / r) B A x (Hu et al. 2021)."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.lora_A = torch.nn.Parameter(torch.randn(RANK, base.in_features) / base.in_features**0.5)  # (r, in)
        self.lora_B = torch.nn.Parameter(torch.zeros(base.out_features, RANK))  # (out, r)

    def forward(self, x):
        thin = torch.nn.functional.linear(x, self.lora_A)
        return self.base(x) + torch.nn.functional.linear(thin, ALPHA / RANK * self.lora_B)


class Trainer:
    """A model in one of the modes, and its optimiser."""

    def __init__(self, directory, mode):
        self.model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
        self.model.train()
        kind, *extra = mode.split("-")
        self.bf16 = "bf16" in extra
        if kind == "lora":
            self.model.requires_grad_(False)
            for layer in self.model.model.layers:
                for half in [layer.self_attn, layer.mlp]:
                    for name in set(MATRICES) & {name for name, _ in half.named_children()}:
                        setattr(half, name, Adapted(getattr(half, name)))
        if "checkpointed" in extra:
            self.model.activation_checkpointing_enable()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser, self.update_seconds = None, {}

    def backward(self, tokens):
        """Loss and gradients of sequences (b, t)."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            loss = self.model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()

    def choose_optimiser(self):
        """AdamW in the form whose update takes less time with the gradients that are there; nothing moves meanwhile."""
        for form in ["fused", "foreach"]:
            optimiser = torch.optim.AdamW(self.trained, lr=0.0, weight_decay=0.0, **{form: True})
            try:
                optimiser.step()  # the moments are made in the first
            except RuntimeError as error:
                print(f"AdamW without `{form}` on this machine: {error}")
                continue
            seconds = []
            for _ in range(3):
                start = time.perf_counter()
                optimiser.step()
                seconds.append(time.perf_counter() - start)
            self.update_seconds[form] = min(seconds)
        form = min(self.update_seconds, key=self.update_seconds.get)
        self.optimiser = torch.optim.AdamW(self.trained, lr=LEARNING_RATE, **{form: True})
        return form

    def step(self, tokens):
        self.optimiser.zero_grad(set_to_none=True)
        self.backward(tokens)
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimiser.step()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=pathlib.Path, help="a Hugging Face directory")
    parser.add_argument("--mode", choices=MODES, default="full")
    parser.add_argument("--batch", type=int, default=1, help="sequences a step")
    parser.add_argument("--length", type=int, default=1024, help="tokens a sequence")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    return parser.parse_args()


def main():
    options = parse()
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(1)
    transformers.utils.logging.disable_progress_bar()
    trainer = Trainer(options.model, options.mode)
    vocabulary = trainer.model.config.vocab_size
    batches = [torch.randint(0, vocabulary, (options.batch, options.length)) for _ in range(options.steps)]
    # Gradients to choose by; memory is touched for the first time here, outside of any step.
    trainer.backward(batches[0])
    form = trainer.choose_optimiser()
    rows = []
    for step, tokens in enumerate(batches, 1):
        start = time.perf_counter()
        trainer.step(tokens)
        seconds = time.perf_counter() - start
        rows.append({"step": step, "seconds": seconds, "tokens_per_second": tokens.numel() / seconds})

    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "timings.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    settings = {
        "mode": options.mode,
        "trained": sum(parameter.numel() for parameter in trainer.trained),
        "optimiser": form,
        "update_seconds": trainer.update_seconds,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (options.out / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
