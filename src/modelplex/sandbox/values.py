"""Values of the options of `modelplex run`. Imports little."""

from __future__ import annotations

import argparse
import math
import re
from typing import Final, NamedTuple

SIZES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
INDEXES: Final = ("pypi", "npm")
MIN_MEMORY: Final = 16 << 20
"""Bytes. With less no interpreter starts."""
MIN_CPUS: Final = 0.01
"""The kernel's smallest share: 1 ms of each 100."""
GATEWAY_PORT: Final = 11435
"""Of the sandbox's loopback, see bridge.py."""


def size(written: str) -> int:
    """Bytes of "512M" or "2G"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", written.strip().upper())
    value = int(float(found[1]) * SIZES[found[2]]) if found else 0
    if value < MIN_MEMORY:
        raise argparse.ArgumentTypeError(f'"{written}" is no size of 16M or more: give 512M, or 2G')
    return value


class Budget(NamedTuple):
    """US dollars and tokens; None for no limit."""

    usd: float | None = None
    tokens: int | None = None

    def __str__(self) -> str:
        parts = [f"${self.usd:g}"] if self.usd is not None else []
        return " and ".join([*parts, f"{self.tokens} tokens"] if self.tokens is not None else parts)


def budget(written: str) -> Budget:
    """Of "usd=5", "tokens=100000", or both with a comma."""
    found = dict(re.findall(r"(?:^|,)(usd|tokens)=(\d+(?:\.\d+)?)(?=,|$)", written))
    if not found or ",".join(f"{name}={number}" for name, number in found.items()) != written:
        raise argparse.ArgumentTypeError(
            f'"{written}" is no budget: give usd=5, tokens=100000, or usd=5,tokens=100000'
        )
    usd = float(found["usd"]) if "usd" in found else None
    tokens = int(float(found["tokens"])) if "tokens" in found else None
    if usd == 0 or tokens == 0:
        raise argparse.ArgumentTypeError(f'"{written}" allows nothing: a budget is more than 0')
    return Budget(usd, tokens)


def duration(written: str) -> float:
    """Seconds of "90s", "30m" or "1h30m"."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", written)
    value = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != written or value <= 0:
        raise argparse.ArgumentTypeError(f'"{written}" is no time: give 90s, 30m, 2h, or 1h30m')
    return value


def age(written: str) -> float:
    """Seconds of "7d"."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", written, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f'"{written}" is no age: give a number and a unit, such as 7d')
    return float(int(found[1]) * (SECONDS | {"w": 604_800})[found[2]])


def package_index(written: str) -> str:
    if written not in INDEXES:
        raise argparse.ArgumentTypeError(f'"{written}" is no index: give pypi, npm, or both with a comma')
    return written


def package_indexes(written: str) -> list[str]:
    """Those of "pypi,npm"."""
    return list(dict.fromkeys(package_index(each.strip()) for each in written.split(",")))


def cpus(written: str) -> float:
    try:
        value = float(written)
    except ValueError:
        value = 0.0
    if not MIN_CPUS <= value < math.inf:
        raise argparse.ArgumentTypeError(f'"{written}" is no number of CPUs: give 2, or 0.5')
    return value


def processes(written: str) -> int:
    if not (written.isascii() and written.isdigit() and int(written) > 0):
        raise argparse.ArgumentTypeError(f'"{written}" is no number of processes: give 500')
    return int(written)


def seed(written: str) -> int:
    if not (written.isascii() and written.isdigit() and int(written) < 2**31):
        raise argparse.ArgumentTypeError(f'"{written}" is no seed: give a number from 0 to {2**31 - 1}')
    return int(written)


class PublishedPort(NamedTuple):
    """`host` 0 is a free one."""

    host: int
    inside: int

    def __str__(self) -> str:
        return f"{self.host}:{self.inside}"


def published_port(written: str) -> PublishedPort:
    """The ports of "3000", or of "8080:3000"."""
    host, colon, inside = written.partition(":")
    port = _port(inside if colon else host, written)
    return PublishedPort(0 if host == "0" else _port(host, written), port)


def allowed_port(written: str) -> int:
    return _port(written, written)


def _port(text: str, written: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise argparse.ArgumentTypeError(f'"{written}" is no port: give 3000, or 8080:3000 for --publish')
    if int(text) == GATEWAY_PORT:
        raise argparse.ArgumentTypeError(f"{GATEWAY_PORT} is the gateway's port inside")
    return int(text)
