#!/usr/bin/env bash
# Makes the files of this folder anew: tests/goldens/pinned/make.sh path/to/criadero, from the project's folder.
# The files that are here were made by criadero 0.1.0 at the commit that changed them last, with libtorch 2.11.0 on an x86-64 CPU with
# AVX-512.
set -euo pipefail
here=tests/goldens/pinned
for name in mock-nsga2 mock-linas mock-random tiny; do
    out=$(mktemp -d)
    # The arguments are words without spaces.
    # shellcheck disable=SC2046
    "$1" $(cat "$here/$name/arguments.txt") --out "$out" > /dev/null
    cp "$out/evaluations.csv" "$out/front.csv" "$here/$name/"
done
