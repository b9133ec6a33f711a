#!/usr/bin/env python3
"""A search whose workers are elsewhere: beside a local one with the same two cores, and with up to 128 workers that sleep as long as
those were seen to compute. Writes results/bench-cluster."""

import argparse
import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from arms import write_csv
from machine import processor

URL = "nats://127.0.0.1:{port}"
# The demo's search, in the arithmetic and division that everybody has.
SEARCH = (
    "search smollm2-135m --objective choice_nll:arc_easy --objective params --evals 64 --population 32 --algorithm nsga2 "
    "--limit 100 --held-out 64 --chunk-tokens 512 --threads 1 --arithmetic f32"
).split()
FILES = ["evaluations.csv", "front.csv", "front.json", "state.json"]


class Server:
    """A NATS server with files of its own."""

    def __init__(self, program, port, folder):
        self.url = URL.format(port=port)
        self.counts = f"http://127.0.0.1:{port + 1}/varz"
        words = [program, "-js", "-a", "127.0.0.1", "-p", str(port), "-m", str(port + 1), "-sd", folder]
        self.process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        time.sleep(1)

    def memory(self):
        """Bytes resident at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def seconds(self):
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def bytes(self):
        """Bytes of messages in and out so far."""
        with urllib.request.urlopen(self.counts) as answer:
            counts = json.load(answer)
        return counts["in_bytes"] + counts["out_bytes"]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


def timed(words):
    """Seconds of a command that must succeed."""
    start = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


def beside_local(args, server, work):
    """Rounds of a local search with two workers, and of one with two worker processes; and what their tasks took."""
    rows = []
    for number in range(args.rounds):
        local, remote = work / f"local-{number}", work / f"remote-{number}"
        search = [args.criadero, *SEARCH, "--model", args.model]
        seconds = timed([*search, "--workers", "2", "--out", local])
        worker = [args.criadero, "worker", "--nats", server.url, "--model", args.model, "--workers", "1"]
        workers = [subprocess.Popen(worker, stderr=subprocess.DEVNULL) for _ in range(2)]
        recorder = subprocess.Popen([args.load, "record", server.url, work / "costs.csv"])
        time.sleep(1)
        remote_seconds = timed([*search, "--nats", server.url, "--out", remote])
        for one in workers:
            one.send_signal(signal.SIGTERM)
            one.wait()
        recorder.wait()
        for name in FILES:
            assert (local / name).read_bytes() == (remote / name).read_bytes(), name
        rows.append({"round": number, "local_seconds": seconds, "remote_seconds": remote_seconds})
        print(rows[-1], flush=True)
    return rows


def load(args, server, costs, slots):
    """One search whose workers sleep."""
    seconds, transferred = server.seconds(), server.bytes()
    said = subprocess.run(
        [args.load, "run", server.url, args.model, costs, str(slots)], check=True, capture_output=True, text=True
    ).stdout
    row = json.loads(said)
    row["server_seconds"] = server.seconds() - seconds
    row["bytes_a_task"] = (server.bytes() - transferred) / row["tasks"]
    row["server_megabytes"] = server.memory() / 1e6
    print(row, flush=True)
    return row


def faster(costs, factor, to):
    """The same costs, so many times faster."""
    rows = list(csv.DictReader(costs.open(encoding="ascii")))
    with to.open("w", encoding="ascii", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "seconds": float(row["seconds"]) / factor} for row in rows)
    return to


def judge(rows, alone):
    """The share of the workers' time in which they did what one alone needs, and how much was done twice."""
    for row in rows:
        row["efficiency"] = alone / (row["workers"] * row["seconds"])
        row["computed_twice"] = row["computed_seconds"] / alone - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--load", default="target/release/examples/cluster_load")
    parser.add_argument("--server", required=True, help="nats-server")
    parser.add_argument("--model", required=True, help="the ranked SmolLM2-135M")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--speed", type=float, default=4.0, help="sleep so many times shorter than was computed")
    parser.add_argument("--workers", default="1,2,4,8,32,128")
    parser.add_argument("--port", type=int, default=4231)
    parser.add_argument("--out", type=Path, default=Path("results/bench-cluster"))
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="criadero-bench-cluster-"))
    server = Server(args.server, args.port, work / "nats")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        real = beside_local(args, server, work)
        write_csv(args.out / "beside_local.csv", real)
        shutil.copy(work / "costs.csv", args.out / "costs.csv")
        costs = faster(work / "costs.csv", args.speed, work / "faster.csv")
        rows = [load(args, server, costs, int(slots)) for slots in args.workers.split(",")]
        alone = rows[0]["computed_seconds"]
        judge(rows, alone)
        write_csv(args.out / "efficiency.csv", rows)
        # Where a search takes seconds, what takes no time in earnest counts: once more as long as was computed.
        earnest = [load(args, server, work / "costs.csv", row["workers"]) for row in rows if row["workers"] >= 32]
        judge(earnest, args.speed * alone)
        write_csv(args.out / "efficiency_in_earnest.csv", earnest)
        instant = faster(work / "costs.csv", 1e9, work / "instant.csv")
        nothing = [load(args, server, instant, slots) for slots in (1, 8)]
        for row in nothing:
            # A search waits so long for workers to say that they are there.
            row["microseconds_a_task"] = 1e6 * (row["seconds"] - 0.5) / row["tasks"]
        write_csv(args.out / "overhead.csv", nothing)
        ratio = statistics.median(row["remote_seconds"] / row["local_seconds"] for row in real)
        lines = [processor(), f"two worker processes beside one process of two workers: {ratio:.3f} times the seconds, median of {len(real)} rounds"]
        for when, of in [("", rows), (", as long as was computed", earnest)]:
            lines += [
                f"{row['workers']:4} workers{when}: efficiency {row['efficiency']:.3f}, computed twice {row['computed_twice']:.3f}" for row in of
            ]
        lines += [
            f"{row['workers']} workers, tasks of no time: {row['microseconds_a_task']:.0f} us and {row['bytes_a_task']:.0f} bytes a task"
            for row in nothing
        ]
        (args.out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
        print("\n".join(lines))
    finally:
        server.stop()
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
