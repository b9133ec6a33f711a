"""Are tokens of real vocabularies those of their models' own tokenizers? By the files that llama.cpp ships for its tests.

    python3 scripts/parity/vocabularies.py DIR --token-ids target/release/examples/token_ids

DIR is `models/` of llama.cpp's source, which the source package of llama-cpp-python on PyPI has under `vendor/llama.cpp`. There,
`ggml-vocab-NAME.gguf` is a vocabulary without weights, `.inp` holds texts, and `.out` the ids that the model's tokenizer in
transformers gives, without BOS. Needs gguf and numpy. Exits with 1 when anything differs but texts that are not composed (NFC):
those of `qwen35` are llama.cpp's own, which composes nothing.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import unicodedata

import gguf
import numpy

#: Between two texts of an `.inp` file.
MARK = "\n__ggml_vocab_test__\n"
HIDDEN = 32


def with_weights(vocabulary, path):
    """The smallest LLaMA with this vocabulary."""
    reader = gguf.GGUFReader(vocabulary)
    writer = gguf.GGUFWriter(path, "llama")
    rows = len(reader.fields["tokenizer.ggml.tokens"].data)
    for name, field in reader.fields.items():
        if name.startswith("tokenizer.") and name != "tokenizer.chat_template":
            kind = field.types[0]
            writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    for name, value in {"context_length": 64, "embedding_length": HIDDEN, "feed_forward_length": HIDDEN, "block_count": 1}.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_uint32("llama.attention.head_count", 2)
    writer.add_uint32("llama.attention.head_count_kv", 2)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    square = numpy.zeros((HIDDEN, HIDDEN), numpy.float16)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", square)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", numpy.ones(HIDDEN, numpy.float32))
    writer.add_tensor("token_embd.weight", numpy.zeros((rows, HIDDEN), numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--token-ids", default="target/release/examples/token_ids")
    arguments = parser.parse_args()
    failed = 0
    for inputs in sorted(arguments.models.glob("ggml-vocab-*.gguf.inp")):
        vocabulary = inputs.with_suffix("")
        texts = inputs.read_bytes().decode().removesuffix(MARK).split(MARK)
        expected = [[int(token) for token in line.split()] for line in inputs.with_suffix(".out").read_text().splitlines()]
        name = vocabulary.stem.removeprefix("ggml-vocab-")
        with tempfile.TemporaryDirectory() as work:
            path = pathlib.Path(work) / "model.gguf"
            with_weights(vocabulary, path)
            given = "".join(json.dumps(text) + "\n" for text in texts)
            result = subprocess.run([arguments.token_ids, path], input=given, capture_output=True, text=True)
        if result.returncode:
            print(f"{name:16} refused: {result.stderr.strip()[:150]}")
            continue
        found = [json.loads(line) for line in result.stdout.splitlines()]
        before = gguf.GGUFReader(vocabulary).fields.get("tokenizer.ggml.bos_token_id")
        bos = [before.contents()] if before else []
        found = [ids[1:] if bos and ids[:1] == bos else ids for ids in found]
        differing = [text for text, ids, other in zip(texts, found, expected, strict=True) if ids != other]
        composed = [text for text in differing if unicodedata.is_normalized("NFC", text)]
        failed += bool(composed)
        note = f" ({len(differing) - len(composed)} more that are not composed)" if len(differing) > len(composed) else ""
        print(f"{name:16} {len(texts)} texts, {len(composed)} differ{note}", *map(repr, composed[:3]), sep="  ", flush=True)
    sys.exit(1 if failed else 0)


main()
