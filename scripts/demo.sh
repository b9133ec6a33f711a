#!/usr/bin/env bash
# From a real model to a smaller one in a GGUF, by one command. Everything it makes is kept: stop it at any moment, and the same
# command goes on; repeat it, and what is done is not done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# make exports this; the default is for those who start the script themselves.
out=${DEMO_OUT:-results/demo}
criadero=${CARGO_TARGET_DIR:-target}/release/criadero

step() { printf '[%2d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$1"; }

step "build the release binary (minutes the first time, then seconds)"
cargo build --locked --release --quiet

step "rank: order heads and MLP channels of SmolLM2-135M by importance, on text that no task scores (once; kept in the cache)"
supernet=$(scripts/supernet.sh)

step "shrink: the best network of at most 115 million parameters for ARC-Easy, measured on questions that the search never saw"
"$criadero" shrink smollm2-135m --quick --to "params<=115M" --task arc_easy --supernet "$supernet" --out "$out"

step "done"
cat <<END

Look at
  $out/report.md            what was lost, and the commands that were run
  $out/export/model.gguf    for llama.cpp
  $out/run/report.html      the search's front, its pictures, how to repeat it
  $out/run/front.csv        one row a network: search scores, held-out accuracy with its standard error

A longer one next
  $criadero shrink smollm2-135m --to "weight_bytes<=100MB" --task arc_easy --task piqa --supernet $supernet --dry-run --out results/longer
END
