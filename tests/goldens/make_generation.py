"""Greedy text of transformers, for tests/generate.rs.

    criadero export smollm2-135m --genome '9x1536*30' --format hf --out DIR
    python3 tests/goldens/make_generation.py DIR > tests/goldens/generation.json
"""

import json
import sys

import torch
import transformers

TOKENS = 64
PROMPTS = [
    "The vicuña is the wild ancestor of the alpaca. It lives",
    "def fibonacci(n):",
    "Once upon a time there was a llama who",
]

directory = sys.argv[1]
tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
model.generation_config.eos_token_id = None
rows = []
for prompt in PROMPTS:
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model.generate(ids, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)[0].tolist()
        logits = model(torch.tensor([out])).logits[0, ids.shape[1] - 1 : -1]
    first, second = logits.topk(2).values.unbind(-1)
    rows.append({"prompt": prompt, "tokens": out[ids.shape[1] :], "smallest_lead": (first - second).min().item()})
made_by = f"transformers {transformers.__version__}, torch {torch.__version__}, float32, CPU"
print(json.dumps({"made_by": made_by, "model": "SmolLM2-135M-Instruct.Q4_1.gguf"})[:-1] + ', "rows": [')
print(",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]}")
