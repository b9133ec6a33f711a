"""Commands whose output is of interest only where they fail."""

import subprocess


def run(command):
    """Runs it; what it complained of ends the program where it fails."""
    words = [str(part) for part in command]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")
