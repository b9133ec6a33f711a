"""A package that is found as torch, with the libtorch of a binary as its libraries: torch itself is a download of gigabytes.

    python3 scripts/wheel/stand_in.py --python ENV/bin/python --libtorch .libtorch/lib
"""

import argparse
import subprocess
from pathlib import Path

# What pip takes for the torch that the wheel requires.
VERSION = "2.11.0+cpu"


def install(python, libtorch, version=VERSION):
    """Puts it into the environment of `python`, in place of one of another version."""
    packages = Path(subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip())
    torch = packages / "torch"
    torch.mkdir(exist_ok=True)
    (torch / "__init__.py").write_text("raise ImportError('nobody needs to import it')\n", encoding="utf-8")
    if not (torch / "lib").exists():
        (torch / "lib").symlink_to(libtorch)
    for old in packages.glob("torch-*.dist-info/METADATA"):
        old.unlink()
        old.parent.rmdir()
    info = packages / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--libtorch", type=Path, required=True)
    arguments = parser.parse_args()
    install(arguments.python, arguments.libtorch.resolve())


if __name__ == "__main__":
    main()
