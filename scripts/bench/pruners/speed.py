"""How fast networks of each method read prompts and write text, against the parent's speed.

    python3 scripts/bench/pruners/speed.py --criadero target/release/criadero --model PARENT --work DIR --out DIR

For each network that compare.py left in DIR/networks it exports one of the same widths of the parent, without zeros: time hangs on
the widths alone. Then all generate in turn, round by round. Of biases, which FLAP adds, nothing is counted; SliceGPT's networks, which
are no LLaMAs, are left out. Medians go to speed.csv.

Needs no more than Python's own library.
"""

import argparse
import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from arms import write_csv
from command import run
from machine import processor

PROMPT = "The river ran past the mill, and past the bridge behind it. " * 20


def genome(place, group):
    """The widths of a network, as criadero's text."""
    pruned = place / "pruned.json"
    if pruned.is_file():
        facts = json.loads(pruned.read_text(encoding="utf-8"))
        heads, widths = [groups * group for groups in facts["groups"]], facts["channels"]
    else:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        heads, widths = config["layer_num_attention_heads"], config["layer_intermediate_size"]
    return ":".join(f"{heads}x{width}" for heads, width in zip(heads, widths, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, type=pathlib.Path, help="Hugging Face directory of the parent")
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=65, help="to write")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--arithmetic", default="bf16", choices=["f32", "bf16", "int8"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    config = json.loads((options.model / "config.json").read_text(encoding="utf-8"))
    group = config["num_attention_heads"] // config["num_key_value_heads"]
    places = {"parent": options.model}
    for network in sorted((options.work / "networks").iterdir()):
        if network.name.startswith("slicegpt-"):
            continue
        place = places[network.name] = options.work / "narrow" / network.name
        if not (place / "config.json").is_file():
            run([options.criadero, "export", options.model, "--genome", genome(network, group), "--format", "hf", "--dtype", "f32", "--out", place])

    times = {name: [] for name in places}
    for _ in range(options.rounds):
        for name, place in places.items():
            said = json.loads(run([options.criadero, "generate", place, "--prompt", PROMPT, "--max-tokens", options.tokens, "--ignore-eos",
                                   "--json", "--arithmetic", options.arithmetic, "--threads", options.threads]))
            times[name].append((said["prompt_tokens_per_second"], said["tokens_per_second"]))

    rows = []
    for name, rounds in times.items():
        against = [[own / whole for own, whole in zip(*pair, strict=True)] for pair in zip(rounds, times["parent"], strict=True)]
        read, wrote = (statistics.median(column) for column in zip(*rounds, strict=True))
        read_gain, write_gain = (statistics.median(column) for column in zip(*against, strict=True))
        rows.append({"network": name, "prefill_tps": round(read, 1), "decode_tps": round(wrote, 2), "prefill_gain": round(read_gain, 3),
                     "decode_gain": round(write_gain, 3)})
        print(rows[-1], flush=True)
    write_csv(options.out / "speed.csv", rows)
    version = run([options.criadero, "--version"]).strip()
    about = f"{processor()}, {version}, {options.arithmetic}, {options.threads} threads, {options.rounds} rounds; "
    about += f"{said['prompt_tokens']} tokens read, {options.tokens - 1} steps\n"
    (options.out / "speed.txt").write_text(about, encoding="utf-8")


if __name__ == "__main__":
    main()
