#!/usr/bin/env bash
# A server, three workers and a search on this machine; one worker is killed on the way, and the front is compared with a local one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cache=${CRIADERO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/criadero}
out=${DEMO_OUT:-results/cluster-demo}
port=${DEMO_PORT:-4229}
url=nats://127.0.0.1:$port
criadero=${CARGO_TARGET_DIR:-target}/release/criadero

step() { printf '[%2d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$1"; }

step "build the release binary, and rank SmolLM2-135M (minutes the first time, then seconds)"
cargo build --locked --release --quiet
supernet=$(scripts/supernet.sh)

rm -rf "$out"
mkdir -p "$out"
trap 'kill $(jobs -p) 2> /dev/null || true; wait 2> /dev/null || true' EXIT

step "a server: $url, its files in $out/nats"
"$cache/nats-server/nats-server" -js -a 127.0.0.1 -p "$port" -sd "$out/nats" 2> "$out/server.log" &
sleep 1

step "three workers of one thread"
for number in 1 2 3; do
	"$criadero" worker --nats "$url" --model "$supernet" --workers 1 --name "demo-$number" 2> "$out/worker-$number.log" &
	workers[number]=$!
done

search() {
	"$criadero" search smollm2-135m --model "$supernet" --objective choice_nll:arc_easy --objective params --limit 64 --held-out 100 \
		--evals 32 --population 16 --chunk-tokens 512 --threads 1 --arithmetic f32 "$@"
}

step "the search; the second worker is killed when the first scores are there"
search --nats "$url" --nats-lease 5 --out "$out/remote" > "$out/remote.txt" 2> "$out/search.log" &
searching=$!
until [ -s "$out/remote/chunks.log" ]; do sleep 0.2; done
"$criadero" workers --nats "$url" --once
kill -KILL "${workers[2]}"
step "killed; the search goes on"
wait "$searching"

step "the same search on this machine alone"
search --out "$out/local" > "$out/local.txt" 2> /dev/null
for file in evaluations.csv front.csv front.json state.json; do
	cmp "$out/remote/$file" "$out/local/$file"
done
step "the same bytes: evaluations.csv, front.csv, front.json, state.json"
cat "$out/remote.txt"
