"""Log-probabilities of given tokens in other runtimes, float32: transformers, and llama.cpp through node-llama-cpp."""

import json
import pathlib
import subprocess

import torch
import transformers

#: Of one log-probability, all in float32.
TOLERANCE = 1e-3


def with_transformers(directory, text=None, tokens=None):
    """Tokens (of a text, or as given), the log-probability of each after those before it, and what computed them. Generation
    with and without a cache must agree: layers without attention must not shift the cache's positions."""
    if tokens is None:
        tokens = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=True)(text)["input_ids"]
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, trust_remote_code=True, attn_implementation="eager"
    ).eval()
    model.generation_config.eos_token_id = None  # go on whatever comes
    start = len(tokens) // 2 if len(tokens) < 32 else 16
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].double()
        cached = model.generate(torch.tensor([tokens[:start]]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    after = torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    greedy = tokens[:start]
    with torch.no_grad():
        for _ in range(8):
            greedy = [*greedy, model(torch.tensor([greedy]), use_cache=False).logits[0, -1].argmax().item()]
    assert cached[0].tolist() == greedy, f"{directory}: generation with and without a cache differ"
    return tokens, after.tolist(), f"transformers {transformers.__version__} {type(model).__name__}"


def with_llama_cpp(file, text, tokens, work):
    """llama.cpp's own tokens of the text, the log-probabilities of the given ones, and its version."""
    script = pathlib.Path(__file__).with_name("llama_cpp.mjs")
    given, answer = work / "llama_cpp_in.json", work / "llama_cpp_out.json"
    given.write_text(json.dumps({"text": text, "tokens": tokens}))
    subprocess.run(["node", script, file, given, answer], check=True)
    result = json.loads(answer.read_text())
    return result["tokens"], result["log_probs"], result["version"]
