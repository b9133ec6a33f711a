"""The machine that something was measured on."""

import platform


def processor():
    """Its logical processors and their name."""
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8") if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()
