#!/usr/bin/env bash
# From a real model to a Pareto front, pictures and a GGUF, one line a step. Everything it makes is kept: stop it at any moment,
# and the same command goes on; repeat it, and what is done is not done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# make exports this; the default is for those who start the script themselves.
run=${DEMO_OUT:-results/demo}
criadero=${CARGO_TARGET_DIR:-target}/release/criadero

step() { printf '[%2d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$1"; }
size() { du -h --apparent-size "$1" | cut -f1; }

step "build the release binary (minutes the first time, then seconds)"
cargo build --locked --release --quiet

step "rank: order heads and MLP channels of SmolLM2-135M by importance, on text that no task scores (once; kept in the cache)"
supernet=$(scripts/supernet.sh)

step "search: breed 56 networks in populations of 16 on 64 ARC-Easy questions, then measure the front on questions it never saw"
"$criadero" search smollm2-135m --model "$supernet" --objective choice_nll:arc_easy --objective params \
    --throughput --evals 56 --population 16 --limit 64 --held-out 200 --seed 1 --out "$run"

step "export: the front's knee as a GGUF for llama.cpp"
rm -rf "$run/export"
"$criadero" export "$run" --pick knee --format gguf --out "$run/export"

step "plot: the front as a table, pictures and a page"
"$criadero" plot "$run"

step "done"
cat <<END

Look at
  $run/report.html      the front, its pictures, how to repeat it
  $run/front.csv        one row a network: search scores, held-out accuracy with its standard error
$(find "$run/export" -name '*.gguf' | while read -r file; do echo "  $file ($(size "$file"))"; done)

Three commands worth trying next
  $criadero inspect smollm2-135m
  $criadero export $run --pick "params<=100M" --format hf --out $run/export-100m
  $criadero search smollm2-135m --model $supernet --objective choice_nll:arc_easy+piqa --objective params \\
      --evals 400 --population 32 --limit 200 --seed 1 --out results/longer
END
