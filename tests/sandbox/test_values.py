"""Sizes, times, CPUs and ports as they are written on the command line."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from modelplex.sandbox.values import (
    PublishedPort,
    age,
    allowed_port,
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
