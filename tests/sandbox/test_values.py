"""Sizes, times, CPUs and ports as they are written on the command line."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from modelplex.sandbox.values import (
    Budget,
    PublishedPort,
    age,
    allowed_port,
    budget,
    cpus,
    duration,
    package_indexes,
    processes,
    published_port,
    size,
)


@pytest.mark.parametrize(
    ("read", "written", "value"),
    [
        (size, "512M", 512 << 20),
        (size, "2g", 2 << 30),
        (size, "1.5GiB", 3 << 29),
        (size, "16777216", 16 << 20),
        (duration, "90s", 90),
        (duration, "1h30m", 5400),
        (duration, "0.5s", 0.5),
        (cpus, "2", 2),
        (cpus, "0.5", 0.5),
        (processes, "500", 500),
        (budget, "usd=5", Budget(5.0, None)),
        (budget, "tokens=100000", Budget(None, 100_000)),
        (budget, "usd=0.5,tokens=10", Budget(0.5, 10)),
        (published_port, "3000", PublishedPort(3000, 3000)),
        (published_port, "8080:3000", PublishedPort(8080, 3000)),
        (published_port, "0:3000", PublishedPort(0, 3000)),
        (allowed_port, "5432", 5432),
    ],
)
def test_values(read: Callable[[str], object], written: str, value: object) -> None:
    assert read(written) == value


@pytest.mark.parametrize(
    ("read", "written"),
    [
        *((budget, each) for each in ("", "5", "usd=", "usd=0", "usd=-1", "usd=5,", "usd=1,usd=2", "eur=5")),
        *((size, each) for each in ("", "1M", "2X", "-2G", "G")),
        *((duration, each) for each in ("", "30", "m", "0s", "-5m", "1h 2m")),
        *((cpus, each) for each in ("", "0", "-1", "nan", "inf", "x")),
        *((processes, each) for each in ("", "0", "-1", "1.5", "²")),
        *((published_port, each) for each in ("", "0", "x", "1:", ":1", "1:0", "65536", "1:2:3", "11435")),
        *((allowed_port, each) for each in ("", "0", "65536", "1:2", "11435")),
    ],
)
def test_wrong_values(read: Callable[[str], object], written: str) -> None:
    with pytest.raises(ArgumentTypeError):
        read(written)


def test_ages_and_indexes_of_packages_are_read() -> None:
    assert (age("7d"), age("2w"), age("90s")) == (604_800, 1_209_600, 90)
    assert package_indexes("npm, pypi,npm") == ["npm", "pypi"]
    for read, wrong in ((age, "7"), (age, "1.5d"), (package_indexes, "pypi,")):
        with pytest.raises(ArgumentTypeError, match="give"):
            read(wrong)


def test_a_budget_is_written_as_it_is_said() -> None:
    assert [str(budget(each)) for each in ("usd=5", "tokens=7", "usd=0.5,tokens=7")] == [
        "$5",
        "7 tokens",
        "$0.5 and 7 tokens",
    ]
