#!/usr/bin/env python3
"""Runs `criadero gpu-check` with the CUDA libraries of an installed PyTorch 2.11: no network, no Rust, nothing but this bundle.

    python3 check.py                 # the first card
    python3 check.py --device cuda:1
    python3 check.py --device cpu    # a dry run of small shapes; any libtorch will do

Beside this file lie `criadero` and `chunks.json`, as `make gpu-check-bundle` puts them there. Results go to ./gpu-check.
"""

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys

VERSION = "2.11"


def libraries():
    """The folders with libtorch and NVIDIA's libraries of this Python's torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        sys.exit(f"error: {sys.executable} has no torch; install torch {VERSION} or run this with a Python that has it")
    package = pathlib.Path(spec.origin).parent
    version = (package / "version.py").read_text(encoding="utf-8")
    if f"'{VERSION}." not in version:
        found = next((line for line in version.splitlines() if "__version__" in line), "no version")
        sys.exit(f"error: {package} is not torch {VERSION} but says {found}")
    return [package / "lib", *sorted(package.parent.glob("nvidia/*/lib"))]


def main():
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--libtorch", type=pathlib.Path, help="folder of libtorch's libraries, instead of the torch of this Python")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-check"))
    options = parser.parse_args()
    folders = [options.libtorch] if options.libtorch else libraries()
    path = ":".join([*map(str, folders), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    command = [here / "criadero", "gpu-check", "--chunks", here / "chunks.json", "--device", options.device, "--out", options.out]
    environment = {**os.environ, "LD_LIBRARY_PATH": path, "CRIADERO_CACHE": str(options.out / "cache")}
    sys.exit(subprocess.run([str(part) for part in command], env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
