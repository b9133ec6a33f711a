"""Makes tests/goldens/tiny-llama: a seeded LLaMA small enough to commit, with transformers' own logits.

    python3 tests/goldens/make_tiny_llama.py [OUT]      # needs torch, transformers, tokenizers

Grouped-query attention (4 query heads, 2 key/value heads), an untied head, bfloat16 weights. The weights are
drawn at about twice the usual scale, and the norms vary, so that a wrong rotation, mask or head order moves
the logits far beyond rounding. `golden.json` holds float32 logits of those bfloat16 weights and token ids of
a few texts; it names the versions that made it.
"""

import json
import math
import pathlib
import platform
import sys

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "tiny-llama")
TEXTS = [
    "The capital of France is 12345",
    "  Two leading spaces, a tab\tand a line\nbreak.",
    "naïve façade, 東京, 🦙",
    "",
]
# Enough words for a vocabulary of 512: 2 special tokens, 256 bytes, 254 merges.
CORPUS = """
A criadero is a place where animals are bred. The farmer keeps the best of each generation, pairs them, and
looks at the young with patience. Yesterday seven brown foxes jumped quickly over the lazy dogs beside our river. Small llamas are bred from a large one: heads and channels are removed,
the question is which of them. The capital of France is Paris. The capital of Peru is Lima. Water boils at 100
degrees, freezes at 0, and is heaviest at 4. Question: which of these animals lives in the mountains? Answer:
the llama. Plants make food from light; animals eat plants or other animals. The moon turns about the earth
and the earth about the sun, in 365 days. Every winter, heavy snow covers both villages until early spring. A front is the set of networks that no other network dominates.
"""


def make_tokenizer():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    assert tokenizer.get_vocab_size() == 512, tokenizer.get_vocab_size()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def make_model():
    torch.manual_seed(20240531)
    config = transformers.LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.copy_(1.0 + 0.2 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * 2.0 / math.sqrt(weight.shape[1]))
    return model.to(torch.bfloat16)


def main():
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    make_model().save_pretrained(OUT)
    tokenizer.save_pretrained(OUT)

    model = transformers.LlamaForCausalLM.from_pretrained(OUT, dtype=torch.float32, attn_implementation="eager")
    model.eval()
    tokens = tokenizer("The capital of France is Paris. Question: which animals")["input_ids"][:20]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].float()
    golden = {
        "made_by": {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "tokenizers": tokenizers.__version__,
            "python": platform.python_version(),
            "device": "cpu",
            "dtype": "float32",
        },
        "tokens": tokens,
        "logits": [[float(f"{value:.7g}") for value in row] for row in logits.tolist()],
        "texts": [{"text": text, "ids": tokenizer(text)["input_ids"]} for text in TEXTS],
    }
    (OUT / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    print(OUT, "std of logits", logits.std().item(), "tokens", len(tokens))


main()
