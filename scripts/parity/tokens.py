"""Are tokens those of transformers? Compares token ids of 10,000 lines of mixed text for every way to cut text.

    python3 scripts/parity/tokens.py --token-ids target/release/examples/token_ids --criadero target/release/criadero
    python3 scripts/parity/tokens.py --golden tests/goldens/pre_tokenizers.json

Needs transformers, tokenizers, torch and gguf in this Python. For every name of llama.cpp's, a byte-level BPE vocabulary is
trained behind the model's own pattern, as its tokenizer.json publishes it. Ids are compared three times: transformers against
ours on the directory, the name in the exported GGUF, and ours on that GGUF. Then directories whose files say different things
about special and added tokens. With --golden, only writes how the `tokenizers` package cuts a few texts, for the tests. Exits
with 1 when anything differs.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

VOCAB = 4096
LINES = 10_000
SPECIAL = ["<s>", "</s>"]


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


def words():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def letters():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"
CJK_AND_HANGUL = "[一-龥ࠀ-一가-\ud7ff]+"
DEEPSEEK_LETTERS = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377"
    "\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556"
    "\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15"
    "\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113"
    "\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184"
    "\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
    "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)
#: Steps of each name's tokenizer.json; whether it composes text first; whether whole words that are tokens are taken.
PRE_TOKENIZERS = {
    "gpt-2": ([words()], False, False),
    "olmo": ([words()], True, False),
    "smollm": ([digits(), words()], False, False),
    "command-r": ([digits(), words()], True, False),
    "llama-bpe": ([split(LLAMA3), letters()], False, True),
    "smaug-bpe": ([split(LLAMA3), letters()], False, False),
    "jais-2": (
        [split(LLAMA3.removesuffix(r"|\s+(?!\S)|\s+") + "".join(rf"|\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2")) + r"|\s{1}"), letters()],
        False, False,
    ),
    "minicpm5": ([split(r"\p{N}{1,3}"), split(LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")), letters()], False, True),
    "qwen2": ([split(QWEN2), letters()], True, False),
    "deepseek-r1-qwen": ([split(QWEN2), letters()], False, False),
    "qwen35": (
        [split(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), letters()],
        True, False,
    ),
    "tekken": ([split(GPT4O.replace(CONTRACTIONS + "?", "").replace(r"\p{N}{1,3}", r"\p{N}")), letters()], False, True),
    "gpt-4o": ([split(GPT4O), letters()], False, False),
    "deepseek-llm": (
        [split("[\r\n]"), split(DEEPSEEK_LETTERS), split("\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"), split(r"\s+$"), split(CJK_AND_HANGUL), digits(), letters()],
        False, False,
    ),
    "deepseek-coder": ([split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK_AND_HANGUL), digits(), letters()], False, False),
    "deepseek-v3": (
        [split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"),
         split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"),
         letters()],
        False, False,
    ),
    "superbpe": ([split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))"), letters()], False, False),
    "bailingmoe": (
        [split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"), letters()],
        False, False,
    ),
    "seed-coder": (
        [split(CONTRACTIONS + "|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"), letters()],
        False, False,
    ),
    "exaone-moe": (
        [split(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"), letters()],
        False, False,
    ),
    "bloom": ([split(BLOOM), letters()], False, False),
    "viking": ([split(BLOOM), digits(), letters()], False, False),
    "falcon": ([pre_tokenizers.Punctuation("contiguous"), words(), split("[0-9][0-9][0-9]")], False, False),
    "default": ([split(r"[\p{P}\$\+<=>\^~\|]+"), split(GPT2), split(r"\p{N}+"), split("[0-9][0-9][0-9]"), letters()], False, False),
}

#: What the lines are made of: scripts with and without cases, contractions in both, digits of several scripts, combining marks,
#: emoji with joiners, spaces of every width, controls, and what no step expects.
FRAGMENTS = [
    "the", "The", "THE", "house", "McDonald", "iPhone", "don't", "DON'T", "Don't", "I'm", "I'M", "we'll", "WE'LL", "they've", "it's", "IT'S",
    "you'd", "we're", "'tis", "'s", "'S", "'ſ", "’s", "rock'n'roll", "naïve", "nai\u0308ve", "e\u0301", "Å", "A\u030a", "ﬁne", "straße", "STRASSE", "İstanbul", "ǅ", "ª",
    "привет", "Привет", "ПРИВЕТ", "Ελλάδα", "ΑΘΉΝΑ", "שלום", "שָׁלוֹם", "مرحبا", "السَّلَام", "नमस्ते", "हिन्दी।", "বাংলা", "தமிழ்", "ไทยครับ", "ພາສາ", "ខ្មែរ",
    "你好", "世界。", "我在apple工作", "日本語テキスト", "カタカナ", "ひらがな", "한국어", "안녕하세요", "ქართული", "Ქართული", "ᏣᎳᎩ", "ꮳꮃꭹ", "አማርኛ", "ⴰⵎⴰⵣⵉⵖ", "𐐀𐐨", "𝒜𝓫", "𠮷野家",
    "0", "7", "12", "123", "1234", "1234567", "3.14", "1,000", "2024-01-31", "١٢٣٤", "१२३४५", "½", "²", "Ⅷ", "①", "〇", "一二三", "0x1F", "12abc34", "1e-9", "٣٤٥٦٧",
    "🙂", "👩\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈", "🇨🇭", "👍🏽", "☕\ufe0f", "→", "≠", "€5", "$10", "50%", "#tag", "@user", "C++", "a=b", "x^2", "~", "`code`", "|", "<br/>", "</p>",
    "http://a.b/c?d=e&f", "foo_bar", "fooBar()", "{'k': \"v\"}", "[1,2]", "a/b/c", "//", "/*", "...", "…", "?!", "!!!", "—", "„x“", "«y»", "、", "。", "，", "۔", "،", "（z）", "\\n", "-", "--",
    "\u200b", "\u200d", "\ufeff", "\u00ad", "\u0000", "\u0007", "\u001f", "\u007f", "\u0085", "\u180e", "\u2028", "\u2029", "\u3000", "\u00a0", "\u2003", "\u202f", "\u1680", "\u0300", "\u20dd", "\ue000", "\U000e0041",
]
SPACES = ["", " ", " ", " ", "  ", "   ", "\n", "\n\n", " \n", "\n ", "\r\n", "\t", "\t\t", " \t ", "\r", "\u00a0", "\u3000", "\x0b", "\x0c", " " * 7, " " * 20]


def lines(count, seed):
    """Fragments joined by all kinds of spaces; one line in ten is of random characters of the first plane."""
    generator = random.Random(seed)
    for place in range(count):
        if place % 10 == 9:
            points = (generator.choice([generator.randrange(0x20, 0x250), generator.randrange(0x20, 0xD800), generator.randrange(0x1F000, 0x1FB00)]) for _ in range(20))
            yield "".join(map(chr, points))
            continue
        parts = []
        for _ in range(generator.randrange(1, 14)):
            parts += [generator.choice(SPACES), generator.choice(FRAGMENTS)]
        yield "".join(parts) + generator.choice(SPACES)


def pre_tokenizer(steps):
    return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)


def trained(name, texts):
    """A tokenizer that cuts as `name` does, with a vocabulary of pieces that occur."""
    steps, composes, whole_words = PRE_TOKENIZERS[name]
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=whole_words))
    if composes:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer(steps)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    return tokenizer


def golden(path):
    """Every fragment once, between spaces of all kinds, as each name cuts it."""
    generator = random.Random(1)
    fragments = generator.sample(FRAGMENTS, len(FRAGMENTS))
    texts = []
    while fragments:
        taken, fragments = fragments[:9], fragments[9:]
        texts.append("".join(generator.choice(SPACES) + fragment for fragment in taken) + generator.choice(SPACES))

    def pieces(step, text):
        return [text[start:end] for _, (start, end) in step.pre_tokenize_str(text)]

    cut = {name: [pieces(pre_tokenizer(steps), text) for text in texts] for name, (steps, *_) in PRE_TOKENIZERS.items()}
    rows = {
        "from": f"scripts/parity/tokens.py --golden, with tokenizers {tokenizers.__version__} of Python",
        "texts": texts,
        "pieces": cut,
    }
    body = ",\n".join(f"{json.dumps(name)}: {json.dumps(rows[name])}" for name in ("from", "texts"))
    table = ",\n".join(f"  {json.dumps(name)}: {json.dumps(pieces)}" for name, pieces in cut.items())
    path.write_text("{\n" + body + ',\n"pieces": {\n' + table + "\n}\n}\n")


def model(directory):
    """A model of random weights with as many rows as the vocabularies have tokens."""
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, bos_token_id=0, eos_token_id=1
    )
    transformers.LlamaForCausalLM(config).save_pretrained(directory)


def ours(arguments, path, texts):
    given = "".join(json.dumps(text) + "\n" for text in texts)
    result = subprocess.run([arguments.token_ids, path], input=given, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def differences(one, other):
    assert len(one) == len(other)
    return [place for place, (a, b) in enumerate(zip(one, other)) if a != b]


def compare(arguments):
    import gguf
    import transformers

    texts = list(lines(arguments.lines, 1))
    failed = 0
    with tempfile.TemporaryDirectory() as work:
        directory, file = pathlib.Path(work) / "model", pathlib.Path(work) / "model.gguf"
        model(directory)
        for name in arguments.name or PRE_TOKENIZERS:
            trained(name, lines(3000, 2)).save(str(directory / "tokenizer.json"))
            settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
            (directory / "tokenizer_config.json").write_text(json.dumps(settings))
            theirs = transformers.AutoTokenizer.from_pretrained(directory)(texts)["input_ids"]
            command = [arguments.criadero, "export", directory, "--genome", "2x32", "--format", "gguf", "--out", file]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            written = gguf.GGUFReader(file).fields["tokenizer.ggml.pre"].contents()
            found = [differences(ours(arguments, path, texts), theirs) for path in (directory, file)]
            good = written == name and not any(found)
            failed += not good
            count = sum(map(len, theirs))
            print(f"{name:18} {len(texts)} lines, {count} tokens: differing lines {len(found[0])} (directory), {len(found[1])} (GGUF, `{written}`)", flush=True)
            for place in (found[0] + found[1])[:3]:
                print(f"  {texts[place]!r}")
    return failed


def template(*single):
    """A post-processor that puts tokens around a text, A."""
    pieces = [{"Sequence": {"id": "A", "type_id": 0}} if name == "A" else {"SpecialToken": {"id": name, "type_id": 0}} for name in single]
    tokens = {name: {"id": name, "ids": [SPECIAL.index(name)], "tokens": [name]} for name in single if name != "A"}
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": pieces, "pair": pair, "special_tokens": tokens}


def listed(tokens):
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {str(place): {"content": text, **flags, **more} for place, (text, more) in tokens.items()}


#: Files that say different things: changes to tokenizer.json and tokenizer_config.json, and files beside them. The tiny
#: model's tokenizer has 512 tokens, `<s>` and `</s>` first.
DISAGREEMENTS = {
    "plain": ({}, {}, {}),
    "template BOS": ({"post_processor": template("<s>", "A")}, {}, {}),
    "template EOS": ({"post_processor": template("A", "</s>")}, {}, {}),
    "template both": ({"post_processor": template("<s>", "A", "</s>")}, {}, {}),
    "template BOS, flag no": ({"post_processor": template("<s>", "A")}, {"add_bos_token": False}, {}),
    "template none, flags yes": ({"post_processor": None}, {"add_bos_token": True, "add_eos_token": True}, {}),
    "template EOS, flag BOS": ({"post_processor": template("A", "</s>")}, {"add_bos_token": True}, {}),
    "Roberta": ({"post_processor": {"type": "RobertaProcessing", "cls": ["<s>", 0], "sep": ["</s>", 1], "trim_offsets": True, "add_prefix_space": False}}, {}, {}),
    "listed with another id": ({}, {"added_tokens_decoder": listed({0: ("<s>", {}), 5: ("</s>", {})})}, {}),
    "listed with other flags": ({}, {"added_tokens_decoder": listed({1: ("</s>", {"lstrip": True, "rstrip": True})})}, {}),
    "listed inside the vocabulary": ({}, {"added_tokens_decoder": listed({260: ("the", {"special": False})})}, {}),
    "map against settings": ({}, {}, {"special_tokens_map.json": {"bos_token": "</s>", "eos_token": {"content": "<s>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}}}),
    "map against list": ({}, {"added_tokens_decoder": listed({0: ("<s>", {}), 1: ("</s>", {})})}, {"special_tokens_map.json": {"bos_token": "</s>", "eos_token": "<s>"}}),
    "a special token of the vocabulary": ({}, {"pad_token": "the", "additional_special_tokens": ["and"]}, {}),
}
AROUND = ["the cat and the dog", "<s>the", "the</s>", " </s> the", "", "<s>", "a <s> </s>b"]


def compare_disagreements(arguments):
    """How many of them differ. What stands behind a text is left out of ours, and a BOS that it writes is not doubled."""
    import transformers

    tiny = pathlib.Path(__file__).resolve().parents[2] / "tests/goldens/tiny-llama"
    failed = 0
    for name, (tokenizer, settings, files) in DISAGREEMENTS.items():
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            for file in ("config.json", "model.safetensors"):
                shutil.copy(tiny / file, work)
            read = lambda file: json.loads((tiny / file).read_text())
            written = {"tokenizer.json": {**read("tokenizer.json"), **tokenizer}, "tokenizer_config.json": {**read("tokenizer_config.json"), **settings}, **files}
            for file, content in written.items():
                (work / file).write_text(json.dumps(content))
            theirs = transformers.AutoTokenizer.from_pretrained(work)
            behind = [1] if theirs("")["input_ids"][-1:] == [1] else []
            expected = []
            for text in AROUND:
                ids = theirs(text)["input_ids"]
                ids = ids[: len(ids) - len(behind)]
                expected.append(ids[1:] if ids[:2] == [0, 0] else ids)
            found = ours(arguments, work, AROUND)
            failed += found != expected
            print(f"{name:35} {'equal' if found == expected else f'DIFFERS: {found}, expected {expected}'}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--token-ids", default="target/release/examples/token_ids")
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--name", action="append", help="only this one; may be given more than once")
    parser.add_argument("--golden", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.golden:
        golden(arguments.golden)
    else:
        sys.exit(1 if compare(arguments) + compare_disagreements(arguments) else 0)


main()
