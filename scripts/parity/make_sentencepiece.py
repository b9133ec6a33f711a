"""Trains the SentencePiece models of tests/goldens/sentencepiece and writes what transformers and SentencePiece make of texts.

    python3 scripts/parity/make_sentencepiece.py

Needs sentencepiece, protobuf and transformers in this Python. `golden.json` has, for each model, settings and texts, the ids
that transformers' AutoTokenizer gives for a directory with that tokenizer.model and those settings, and SentencePiece's own.
"""

import json
import pathlib
import shutil
import tempfile

import sentencepiece
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/goldens/sentencepiece"
CONFIG = ROOT / "tests/goldens/tiny-llama/config.json"
VOCAB = 480  # fewer than the 512 rows of tiny-llama
TEXTS = [
    "The model is ranked.", "the  parent", " two   spaces  ", "", " ", "a\nb\n\n\tc", "Zürich, 1234 networks!", "naïve ﬁ ½ Ａ", "日本語 🙂",
    "x<|user|>y z", "<s>the parent</s> of it", "one <|ctl|> two", "▁the", "<unk>?", "<0x41>",
]
#: A normalization of few rules, so that the model stays small.
RULES = [("ﬁ", "fi"), ("½", "1/2"), ("Ａ", "A"), ("\n", " "), ("\t", " ")]
#: `legacy` and flags as tokenizer_config.json has them.
SETTINGS = [
    {},
    {"legacy": True, "add_bos_token": True},
    {"add_bos_token": True, "add_eos_token": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    {"add_prefix_space": False},
    {"added_tokens_decoder": {str(VOCAB): {"content": "<|more|>", "special": True}}, "bos_token": "</s>", "add_bos_token": True},
]


def train(name, kind, remove, **rules):
    sentencepiece.SentencePieceTrainer.train(
        input=str(ROOT / "ARCHITECTURE.md"), model_prefix=str(OUT / name), model_type=kind, vocab_size=VOCAB, byte_fallback=True,
        remove_extra_whitespaces=remove, user_defined_symbols=["<|user|>"], control_symbols=["<|ctl|>"],
        character_coverage=0.995, split_digits=True, num_threads=1, minloglevel=2, **rules,
    )
    (OUT / f"{name}.vocab").unlink()


def rows(name):
    own = sentencepiece.SentencePieceProcessor(model_file=str(OUT / f"{name}.model"))
    found = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        shutil.copy(CONFIG, work)
        shutil.copy(OUT / f"{name}.model", work / "tokenizer.model")
        for settings in SETTINGS:
            settings = {"tokenizer_class": "LlamaTokenizer", **settings}
            (work / "tokenizer_config.json").write_text(json.dumps(settings))
            theirs = transformers.AutoTokenizer.from_pretrained(work)
            found.append({"settings": settings, "ids": [theirs(text)["input_ids"] for text in TEXTS]})
    return {"sentencepiece": own.encode(TEXTS), "transformers": found}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    train("bpe", "bpe", False, normalization_rule_name="identity")
    with tempfile.TemporaryDirectory() as work:
        rules = pathlib.Path(work) / "rules.tsv"
        hexadecimal = lambda text: " ".join(f"{ord(letter):x}" for letter in text)
        rules.write_text("".join(f"{hexadecimal(one)}\t{hexadecimal(other)}\n" for one, other in RULES))
        train("unigram", "unigram", True, normalization_rule_tsv=str(rules))
    golden = {
        "from": f"scripts/parity/make_sentencepiece.py, with sentencepiece {sentencepiece.__version__} and transformers {transformers.__version__}",
        "texts": TEXTS,
        "bpe": rows("bpe"),
        "unigram": rows("unigram"),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in golden.items()]
    (OUT / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
