"""Commands that must succeed."""

import signal
import subprocess


def run(command, until=None):
    """What it prints. It is interrupted once `until` says so; what it complained of ends the program where it fails."""
    words, interrupted = [str(part) for part in command], False
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                if until and not interrupted and until():
                    interrupted = True
                    process.send_signal(signal.SIGINT)
    if process.returncode != 0 and not interrupted:
        raise SystemExit(f"{' '.join(words)}\n{errors}")
    return output
