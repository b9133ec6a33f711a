#!/usr/bin/env bash
# Runs fuzz targets on their corpora: `tests/fuzz/run.sh SECONDS [TARGET]...`, so many seconds each, by default all of them.
# What is found is kept under target/fuzz: inputs that reach new code in corpus/TARGET, what failed in failed/TARGET-*.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=$1
shift
target=${CARGO_TARGET_DIR:-target}
RUSTC_WORKSPACE_WRAPPER="$PWD/tests/fuzz/rustc.sh" cargo build --locked --quiet --package criadero-fuzz
if [ $# -eq 0 ]; then
	for path in tests/fuzz/targets/*.rs; do set -- "$@" "$(basename "$path" .rs)"; done
fi
# Files that a target reads lie in memory where that can be.
TMPDIR=$(mktemp -d "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")/criadero-fuzz-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p "$target/fuzz/failed"
for name in "$@"; do
	mkdir -p "$target/fuzz/corpus/$name"
	log=$target/fuzz/$name.log
	if ! "$target/debug/fuzz_$name" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 \
		-artifact_prefix="$target/fuzz/failed/$name-" "$target/fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
		tail -40 "$log"
		echo "fuzz: $name failed; its whole log is $log" >&2
		exit 1
	fi
	awk -v name="$name" '/^#[0-9]+.*DONE/ { for (i = 2; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
		/number_of_executed_units/ { runs = $2 } END { printf "fuzz: %-10s %9d inputs, %5d places reached\n", name, runs, cov }' "$log"
done
