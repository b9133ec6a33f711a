"""Networks scored by `criadero eval --genomes`, each once: what is known is kept in a file of JSON lines."""

import json
import subprocess
import tempfile
from pathlib import Path

import json_lines

# As searches cut sequences.
MAX_LENGTH = 2048
# Networks that are scored before any of them is kept.
AT_ONCE = 50


def evaluate(options, split, limit, genomes, alone=False, per_item=None, arithmetic="f32"):
    """One object a network, in order: its metrics, and the seconds of all together, or of each where they are alone."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("".join(f"{genome}\n" for genome in genomes))
        file.flush()
        command = [options.criadero, "eval", options.model, "--task", options.task, "--data", options.data, "--split", split]
        command += ["--limit", limit, "--max-length", MAX_LENGTH, "--genomes", file.name]
        command += ["--arithmetic", arithmetic]
        command += ["--alone"] if alone else []
        command += ["--per-item", per_item] if per_item else []
        output = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in output.splitlines()]
    failed = [row for row in rows if "failed" in row]
    if failed:
        raise SystemExit(f"{failed[0]['genome']} cannot be scored: {failed[0]['failed']}")
    return rows


class ScoreCache:
    """Scores on the first `limit` items of one split."""

    def __init__(self, options, split, limit, arithmetic="f32"):
        self.options, self.split, self.limit, self.arithmetic = options, split, limit, arithmetic
        self.path = Path(options.work, f"scores-{split}-{limit}.jsonl")
        self.known = {row["genome"]: row for row in json_lines.appended(self.path)}

    def of(self, genomes):
        """`{genome: {"genome", "choice_nll", "acc"}}` of these networks, the unknown ones scored together."""
        unknown = [genome for genome in dict.fromkeys(genomes) if genome not in self.known]
        for start in range(0, len(unknown), AT_ONCE):
            found = evaluate(self.options, self.split, self.limit, unknown[start : start + AT_ONCE], arithmetic=self.arithmetic)
            rows = [{name: row[name] for name in ["genome", "choice_nll", "acc"]} for row in found]
            json_lines.append(self.path, rows)
            self.known.update((row["genome"], row) for row in rows)
        return {genome: self.known[genome] for genome in genomes}
