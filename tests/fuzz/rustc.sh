#!/usr/bin/env bash
# As RUSTC_WORKSPACE_WRAPPER: our own crates with the counters that libFuzzer is guided by. What they depend on is the tests' own build of
# it, so that this costs seconds; the compiler needs to be no nightly one.
set -euo pipefail
case " $* " in
*" --crate-name build_script_"* | *" --print="* | *" -vV "*) exec "$@" ;;
esac
exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
