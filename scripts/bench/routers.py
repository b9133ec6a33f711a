"""Routers of a supernet against networks without one, at equal measured throughput.

    python3 scripts/bench/routers.py --supernet SUPERNET --router ROUTER --novels FILE --out results/bench-routers \\
        [--shares 0.9 0.8 0.7 0.6] [--tasks arc_easy piqa] [--limit 200] [--rounds 1]

Of each share of the largest network's MACs: what the ranking picks (`export --pick`), the static router's network, the adaptive router, and
the adaptive one's widths dealt to tokens by chance. All are scored on the same questions and the same text, LAMBADA's novels, in turn;
throughput is packed tokens of the text by the seconds that scoring took. Differences are paired by question and by passage.

rows.csv has every score, summary.txt the means. At equal throughput: between the two picked networks whose throughputs lie around an
arm's, on the straight line.
"""

import argparse
import csv
import json
import math
import pathlib
import tempfile

import json_lines
import novels
from command import run
from machine import processor

ARMS = ["pick", "static", "adaptive", "chance"]


class Bench:
    def __init__(self, options):
        self.options = options
        self.scratch = pathlib.Path(tempfile.mkdtemp())
        self.novels = self.scratch / "novels.jsonl"
        json_lines.write(self.novels, ({"text": text} for text in self.documents()))

    def documents(self):
        """Documents of novels, so many characters in all."""
        total = 0
        for document in novels.documents(self.options.assets):
            yield document
            total += len(document)
            if total >= self.options.characters:
                return

    def criadero(self, *words):
        return run([self.options.criadero, *words])

    def picked(self, macs):
        """The genome that the ranking picks within so many MACs."""
        out = self.scratch / "picked.gguf"
        said = self.criadero("export", self.options.supernet, "--space", self.options.space, "--pick", f"macs<={macs}", "--format", "gguf",
                             "--out", out, "--json")
        return json.loads(said)["genome"]

    def flags(self, arm, share, picked):
        router = ["--router", self.options.router, "--budget", f"share<={share}"]
        return {"pick": ["--genome", picked], "static": [*router, "--static"], "adaptive": router, "chance": [*router, "--by-chance"]}[arm]

    def score(self, task, flags):
        """Values of the items, the summary, and what the router said of itself."""
        rows = self.scratch / "rows.jsonl"
        rows.unlink(missing_ok=True)
        text = task == self.novels
        more = ["--max-length", 1024] if text else ["--limit", self.options.limit]
        said = self.criadero("eval", self.options.supernet, "--task", task, *more, "--json", "--per-item", rows, "--arithmetic", "bf16", *flags)
        summary = json.loads(said)
        items = json_lines.read(rows)
        items = sorted((item for item in items if "index" in item), key=lambda item: item["index"])
        values = [sum(item["log_likelihoods"]) if text else item["correct"] for item in items]
        return values, summary, summary.get("routed", {})


def paired(ours, theirs, weights=None):
    """Mean difference and its standard error."""
    differences = [a - b for a, b in zip(ours, theirs)]
    count = len(differences)
    mean = sum(differences) / count
    error = math.sqrt(sum((one - mean) ** 2 for one in differences) / (count - 1) / count)
    if weights:
        return mean * count / weights, error * count / weights
    return mean, error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernet", required=True)
    parser.add_argument("--router", required=True)
    parser.add_argument("--assets", required=True, type=pathlib.Path, help="what `criadero fetch demo` and `make assets` unpack")
    parser.add_argument("--characters", type=int, default=100_000, help="of the novels")
    parser.add_argument("--space", default="smollm2-135m")
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.9, 0.8, 0.7, 0.6])
    parser.add_argument("--tasks", nargs="*", default=["arc_easy", "piqa"])
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    options = parser.parse_args()
    bench = Bench(options)
    whole = json.loads(bench.criadero("inspect", options.space, "--model", options.supernet, "--json"))
    whole = whole["largest"]["macs"]
    options.out.mkdir(parents=True, exist_ok=True)
    found, speeds, said_of = {}, {}, {}
    for share in options.shares:
        picked = bench.picked(math.floor(share * whole))
        for _ in range(options.rounds):
            for arm in ARMS:
                values, said, of_router = bench.score(bench.novels, bench.flags(arm, share, picked))
                found[share, arm, "novels"], said_of[share, arm] = values, of_router
                speeds.setdefault((share, arm), []).append(said["packed_tokens"] / said["seconds"])
                tokens = said["packed_tokens"]
        for arm in ARMS:
            for task in options.tasks:
                found[share, arm, task] = bench.score(task, bench.flags(arm, share, picked))[0]
    with open(options.out / "rows.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["share", "arm", "tokens_per_second", "nll", *options.tasks])
        for share in options.shares:
            for arm in ARMS:
                nll = -sum(found[share, arm, "novels"]) / tokens
                accuracies = [sum(found[share, arm, task]) / len(found[share, arm, task]) for task in options.tasks]
                writer.writerow([share, arm, f"{max(speeds[share, arm]):.1f}", f"{nll:.5f}", *(f"{one:.5f}" for one in accuracies)])
    lines = [f"{processor()}, bf16; nll in nats a token of the novels, differences to `pick` and to `chance` with paired standard errors", ""]
    lines.append(f"{'share':>5} {'arm':<9} {'tokens/s':>9} {'cost':>6} {'nll':>7} {'to pick':>17} {'to chance':>17}  " +
                 "  ".join(f"{task:>8} {'to pick':>16}" for task in options.tasks))
    for share in options.shares:
        for arm in ARMS:
            own = found[share, arm, "novels"]
            compare = lambda other: "" if arm == other else "{:+.4f} ± {:.4f}".format(*paired([-x for x in own], [-x for x in found[share, other, "novels"]], tokens))
            line = f"{share:>5} {arm:<9} {max(speeds[share, arm]):>9.0f} {said_of[share, arm].get('cost', said_of[share, arm].get('budget', share)):>6.3f} {-sum(own) / tokens:>7.4f} {compare('pick'):>17} {compare('chance') if arm == 'adaptive' else '':>17}  "
            for task in options.tasks:
                answers = found[share, arm, task]
                difference = "" if arm == "pick" else "{:+.3f} ± {:.3f}".format(*paired(answers, found[share, "pick", task]))
                line += f"{sum(answers) / len(answers):>8.3f} {difference:>16}  "
            lines.append(line.rstrip())
    lines += ["", "at equal measured throughput, nll beyond the line between picked networks:"]
    points = sorted((max(speeds[share, "pick"]), -sum(found[share, "pick", "novels"]) / tokens) for share in options.shares)
    for share in options.shares:
        for arm in ["static", "adaptive"]:
            speed, nll = max(speeds[share, arm]), -sum(found[share, arm, "novels"]) / tokens
            around = [(low, high) for low, high in zip(points, points[1:]) if low[0] <= speed <= high[0]]
            if around:
                (s0, n0), (s1, n1) = around[0]
                line = n0 + (n1 - n0) * (speed - s0) / (s1 - s0)
                lines.append(f"{share:>5} {arm:<9} {nll - line:+.4f}")
            else:
                lines.append(f"{share:>5} {arm:<9} faster or slower than all of them")
    (options.out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
