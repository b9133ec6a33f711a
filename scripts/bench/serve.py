#!/usr/bin/env python3
"""`criadero serve` under load, beside llama.cpp's server on the same file: tokens a second and latencies at 1, 4 and 16 requests at a time;
then thousands of requests with clients that leave and a queue that is full. Writes results/bench-serve."""

import argparse
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from arms import write_csv
from machine import processor

# About 60 tokens.
PROMPT = (
    "The history of the alpaca is that of the people of the high plains, who bred it for its wool when the coast still had no cities. "
    "Day {number}: write down what the farmer said about the weather, the price of wool, and the road to the next village, in plain words."
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A process that answers at a port, once `/health` does."""

    def __init__(self, name, words, port):
        self.name, self.port = name, port
        self.process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            assert self.process.poll() is None, f"{name} ended"
            time.sleep(0.2)
        raise TimeoutError(name)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def megabytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def streamed(server, number, tokens):
    """Seconds to the first piece and to the end, and the tokens of a streamed request."""
    body = {"prompt": PROMPT.format(number=number), "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    body["stream_options"] = {"include_usage": True}
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    first, usage = None, None
    for line in answer:
        if not line.startswith(b"data: {"):
            continue
        first = first or time.monotonic() - start
        usage = json.loads(line[6:]).get("usage") or usage
    connection.close()
    return first, time.monotonic() - start, usage["completion_tokens"]


def load(server, clients, requests, tokens):
    """A row: so many clients, each of which sends the next request when its last one is answered."""
    done, lock, numbers = [], threading.Lock(), iter(range(requests))

    def client():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            result = streamed(server, number, tokens)
            with lock:
                done.append(result)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    ends = sorted(end for _, end, _ in done)
    quantile = lambda share: ends[min(len(ends) - 1, int(share * len(ends)))]
    return {
        "server": server.name,
        "clients": clients,
        "requests": requests,
        "tokens_per_second": sum(tokens for *_, tokens in done) / seconds,
        "first_piece_seconds": statistics.median(first for first, *_ in done),
        "median_seconds": quantile(0.5),
        "p90_seconds": quantile(0.9),
        "p99_seconds": quantile(0.99),
        "megabytes": server.megabytes(),
    }


def metric(server, name):
    line = next(line for line in server.get("/metrics")[1].splitlines() if line.startswith(f"criadero_{name} "))
    return int(float(line.split()[1]))


def rough(server, requests, clients):
    """Thousands of short requests, of which some are left at any moment, by more clients than there is room for."""
    counts = {"answered": 0, "refused": 0, "left": 0}
    lock, numbers, memory = threading.Lock(), iter(range(requests)), []

    def client(seed):
        draw = random.Random(seed)
        while True:
            with lock:
                number = next(numbers, None)
                if number is not None and number % (requests // 10) == 0:
                    memory.append(server.megabytes())
            if number is None:
                return
            tokens = draw.randint(1, 24)
            body = json.dumps({"prompt": f"Day {number} was", "max_tokens": tokens, "ignore_eos": True, "stream": draw.random() < 0.5})
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            if draw.random() < 0.3:
                time.sleep(draw.random() * 0.2)
                connection.close()
                what = "left"
            else:
                answer = connection.getresponse()
                text = answer.read().decode()
                assert answer.status in (200, 429), text
                assert answer.status == 429 or '"finish_reason":"length"' in text, text
                what = "answered" if answer.status == 200 else "refused"
                connection.close()
                if what == "refused":
                    time.sleep(draw.random() * 0.2)
            with lock:
                counts[what] += 1

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while metric(server, "requests_active") + metric(server, "requests_waiting") > 0:
        time.sleep(0.1)
    memory.append(server.megabytes())
    taken, finished, cancelled = (metric(server, f"requests_{what}_total") for what in ("taken", "finished", "cancelled"))
    lost = taken - finished - cancelled
    failed = metric(server, "requests_failed_total") + metric(server, "requests_late_total")
    return [{**counts, "taken": taken, "finished": finished, "cancelled": cancelled, "lost": lost, "failed": failed,
             "megabytes_at_a_tenth": memory[1], "megabytes_at_the_end": memory[-1]}]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--criadero", default="target/release/criadero")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--llama-server", help="llama.cpp's server; without it criadero is measured alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clients", default="1,4,16")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rough", type=int, default=10_000)
    parser.add_argument("--arithmetic", action="append", help="by default what `serve` takes by itself")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/bench-serve"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def criadero(arithmetic, *more):
        port = free_port()
        words = [args.criadero, "serve", args.model, "--addr", f"127.0.0.1:{port}", "--threads", args.threads]
        words += ["--arithmetic", arithmetic] if arithmetic else []
        return Server(f"criadero {arithmetic}" if arithmetic else "criadero", [*words, *more], port)

    def llama():
        port = free_port()
        words = [args.llama_server, "-m", args.model, "--port", port, "-t", args.threads, "-np", 16, "-c", 16 * 512, "--no-webui"]
        return Server("llama.cpp", words, port)

    starts = [lambda of=of: criadero(of) for of in args.arithmetic or [None]] + ([llama] if args.llama_server else [])
    rows = []
    for number in range(args.rounds):
        for start in starts:
            server = start()
            try:
                load(server, 2, 4, 8)
                for clients in map(int, args.clients.split(",")):
                    rows.append({"round": number, **load(server, clients, args.requests, args.tokens)})
                    print(rows[-1], flush=True)
            finally:
                server.stop()
    write_csv(args.out / "load.csv", rows)
    lines = [processor()]
    for name in dict.fromkeys(row["server"] for row in rows):
        for clients in map(int, args.clients.split(",")):
            of = [row for row in rows if (row["server"], row["clients"]) == (name, clients)]
            rate, p50, p99 = (statistics.median(row[what] for row in of) for what in ("tokens_per_second", "median_seconds", "p99_seconds"))
            lines.append(f"{name:14} {clients:3} at a time: {rate:7.1f} tokens a second, a request {p50:.2f} s, 99 of 100 within {p99:.2f} s")
    if args.rough:
        server = criadero((args.arithmetic or [None])[0], "--batch", "8", "--queue", "8")
        try:
            row = rough(server, args.rough, 32)
        finally:
            server.stop()
        write_csv(args.out / "rough.csv", row)
        lines.append(", ".join(f"{name} {value:.0f}" for name, value in row[0].items()))
    (args.out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
