"""Starts the program with the libtorch of this Python's torch, CPU or CUDA.

Nothing of torch is imported: its place and version are looked up, and the program takes this process over.
"""

import os
import sys

from criadero.version import __version__

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "criadero")
LIBTORCH = "2.11"
REMEDY = f"python -m pip install 'torch=={LIBTORCH}.*'"


def main():
    if sys.argv[1:] in (["--version"], ["-V"]):
        # Loading libtorch takes longer than all the rest.
        print(f"criadero {__version__}")
        return
    folders = [libtorch(), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    # What `criadero fetch` runs pip with.
    python = os.environ.get("CRIADERO_PYTHON") or sys.executable
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(folders), "CRIADERO_PYTHON": python}
    try:
        os.execve(PROGRAM, ["criadero", *sys.argv[1:]], environment)
    except OSError as error:
        sys.exit(f"error: {PROGRAM}: {error.strerror}; install criadero again")


def libtorch():
    """The folder of torch's libraries; exits where there is none that fits."""
    import importlib.metadata
    import importlib.util

    spec = importlib.util.find_spec("torch")
    places = (spec.submodule_search_locations if spec else None) or []
    folders = [os.path.join(place, "lib") for place in places]
    folder = next((folder for folder in folders if os.path.exists(os.path.join(folder, "libtorch_cpu.so"))), None)
    if folder is None:
        sys.exit(f"error: torch {LIBTORCH} not found by {sys.executable}; {REMEDY}")
    found = importlib.metadata.version("torch")
    if found.split(".")[:2] != LIBTORCH.split("."):
        sys.exit(f"error: torch: found version {found} ({os.path.dirname(folder)}), expected {LIBTORCH}; {REMEDY}")
    return folder
