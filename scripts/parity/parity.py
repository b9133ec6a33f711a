"""Do other runtimes compute what was exported? Exports one network in every format and compares log-probabilities.

    python3 scripts/parity/parity.py --criadero target/release/criadero --model MODEL.gguf [--genome TEXT] [--work DIR]

Needs torch and transformers in this Python, and node-llama-cpp in NODE_MODULES (or beside where this runs).
Every runtime gets the same tokens of the same text, in float32 (llama.cpp with a float32 key/value cache). The
reference is transformers on the hf-padded export: plain LLaMA, no code of ours. Exits with 1 when a difference is
above the tolerance or token ids differ.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

TOLERANCE = 1e-3
TEXT = """The vicuña is the wild ancestor of the alpaca. It lives in the high Andes, at 3,200 to 4,800 metres, and is
shorn once in two or three years. In 1974 there were only 6,000 of them; today there are about 350,000. Don't call
it a llama: llamas carry loads, weigh up to 200 kg, and spit when they are cross."""
# Every rule of the GGUF export at once: a first kept layer without attention, one without MLP, mixed widths.
GENOME = "-:0x1536:9x1536*4:3x1280*4:6x0:-:0x1024:9x768*8:6x1504*9"


def export(arguments, form):
    out = arguments.work / form
    command = [arguments.criadero, "export", arguments.model, f"--genome={arguments.genome}", "--format", form]
    subprocess.run([*command, "--out", out, "--dtype", "f32"], check=True, stdout=subprocess.DEVNULL)
    return out


def with_transformers(directory, text):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, trust_remote_code=True, attn_implementation="eager"
    ).eval()
    model.generation_config.eos_token_id = None  # go on whatever comes
    tokens = tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].double()
        start = model.generate(torch.tensor([tokens[:16]]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    after = torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    # The same continuation without a cache: layers without attention must not shift the cache's positions.
    greedy = tokens[:16]
    with torch.no_grad():
        for _ in range(8):
            greedy = [*greedy, model(torch.tensor([greedy]), use_cache=False).logits[0, -1].argmax().item()]
    assert start[0].tolist() == greedy, f"{directory}: generation with and without a cache differ"
    return tokens, after.tolist(), f"transformers {transformers.__version__} {type(model).__name__}"


def with_llama_cpp(file, text, tokens, work):
    script = pathlib.Path(__file__).with_name("llama_cpp.mjs")
    given, answer = work / "llama_cpp_in.json", work / "llama_cpp_out.json"
    given.write_text(json.dumps({"text": text, "tokens": tokens}))
    subprocess.run(["node", script, file, given, answer], check=True)
    result = json.loads(answer.read_text())
    return result["tokens"], result["log_probs"], result["version"]


def with_criadero(arguments, tokens, reference):
    """The second half of the text after the first: our own log-likelihood, and the reference's."""
    middle = TEXT.index(" ", len(TEXT) // 2)
    task, rows = arguments.work / "halves.jsonl", arguments.work / "halves_scored.jsonl"
    task.write_text(json.dumps({"context": TEXT[:middle], "choices": [TEXT[middle + 1 :]], "gold": 0}) + "\n")
    command = [arguments.criadero, "eval", arguments.model, f"--genome={arguments.genome}", "--task", task]
    subprocess.run([*command, "--per-item", rows], check=True, stdout=subprocess.DEVNULL)
    [ours] = json.loads(rows.read_text())["log_likelihoods"]
    first = transformers.AutoTokenizer.from_pretrained(arguments.work / "hf-padded")(TEXT[:middle])["input_ids"]
    assert first == tokens[: len(first)], "the text is not cut between tokens"
    return ours, sum(reference[len(first) - 1 :]), len(tokens) - len(first)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True)
    parser.add_argument("--genome", default=GENOME)
    parser.add_argument("--work", type=pathlib.Path, help="kept when given; a temporary directory otherwise")
    arguments = parser.parse_args()
    temporary = None
    if arguments.work is None:
        temporary = tempfile.TemporaryDirectory()
        arguments.work = pathlib.Path(temporary.name)
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(os.cpu_count() or 1)

    tokens, reference, name = with_transformers(export(arguments, "hf-padded"), TEXT)
    rows = [("hf-padded", name, tokens, reference)]
    own_tokens, log_probs, name = with_transformers(export(arguments, "hf"), TEXT)
    rows.append(("hf", name, own_tokens, log_probs))
    own_tokens, log_probs, name = with_llama_cpp(export(arguments, "gguf") / "model.gguf", TEXT, tokens, arguments.work)
    rows.append(("gguf", name, own_tokens, log_probs))

    print(f"genome {arguments.genome}, {len(tokens)} tokens, tolerance {TOLERANCE}")
    print(f"{'export':10} {'runtime':48} {'mean NLL':>10} {'largest |d log p|':>18} {'token ids':>10}")
    failed = False
    for form, name, own_tokens, log_probs in rows:
        largest = max(abs(a - b) for a, b in zip(log_probs, reference, strict=True))
        same = own_tokens == tokens
        failed |= largest > TOLERANCE or not same
        nll = -sum(log_probs) / len(log_probs)
        print(f"{form:10} {name:48} {nll:10.6f} {largest:18.2e} {'equal' if same else 'DIFFER':>10}")
    ours, theirs, count = with_criadero(arguments, tokens, reference)
    failed |= abs(ours - theirs) > TOLERANCE
    print(f"criadero eval, the last {count} tokens together: {ours:.6f}, {ours - theirs:+.2e} to the reference")
    sys.exit(1 if failed else 0)


main()
