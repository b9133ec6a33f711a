"""Directories that are either whole or not there: filled beside their place, then renamed, with a list of their files."""

import contextlib
import fcntl
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

MANIFEST = "MANIFEST.json"


@contextlib.contextmanager
def locked(directory):
    """One set-up at a time in one cache; the system releases the lock however the process ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sizes(tree):
    """Size of every file of the tree, by path inside it."""
    files = (path for path in tree.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(tree)): path.stat().st_size for path in files}


def is_whole(tree, recipe):
    """Whether the tree was made by this recipe and every file still has its size."""
    try:
        manifest = json.loads((tree / MANIFEST).read_text(encoding="utf-8"))
        return manifest["recipe"] == recipe and all(
            (tree / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def build(tree, recipe, fill):
    """Makes `tree` whole: does nothing when it is, else `fill(directory)` writes all of it anew. Returns whether it did.

    `recipe` is a JSON value that changes whenever the content should.
    """
    if is_whole(tree, recipe):
        return False
    tree.parent.mkdir(parents=True, exist_ok=True)
    for stale in tree.parent.glob(f".{tree.name}-*"):
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix=f".{tree.name}-", dir=tree.parent) as work:
        new = Path(work) / "new"
        new.mkdir()
        fill(new)
        manifest = {"recipe": recipe, "files": sizes(new)}
        (new / MANIFEST).write_text(json.dumps(manifest, sort_keys=True), encoding="utf-8")
        if tree.exists() or tree.is_symlink():
            tree.rename(Path(work) / "old")
        new.rename(tree)
    return True


def unzip(archive, directory, prefixes, keep=lambda name: True):
    """Unpacks the members of a wheel that lie under a key of `prefixes`, each to the directory its value names.

    Modes are kept; a prefix that matches nothing is an error, so that a wrong recipe cannot pass for a tree.
    """
    matched = set()
    with zipfile.ZipFile(archive) as wheel:
        for member in wheel.infolist():
            prefix = next((prefix for prefix in prefixes if member.filename.startswith(prefix)), None)
            if prefix is None or member.is_dir() or not keep(member.filename):
                continue
            matched.add(prefix)
            target = directory / prefixes[prefix] / member.filename[len(prefix) :]
            target.parent.mkdir(parents=True, exist_ok=True)
            with wheel.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            mode = member.external_attr >> 16 & 0o777
            if mode:
                target.chmod(mode)
    missing = sorted(set(prefixes) - matched)
    if missing:
        raise ValueError(f"{archive}: nothing under {', '.join(missing)}")
