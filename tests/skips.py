"""`--reviewed-skips` makes every skip a failure that no entry of reviewed_skips.toml allows.

A test that lacks a program or a right skips itself with a reason, so that the suite passes on a
bare machine. Without this list nobody notices that CI has stopped running it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import pytest

REVIEWED = Path(__file__).with_name("reviewed_skips.toml")
OPTION = "--reviewed-skips"


@dataclass(frozen=True)
class Entry:
    """`test` is a pattern of node ids as a shell's, `reason` a regular expression that the whole
    reason matches.
    """

    test: str
    reason: str
    why: str

    def allows(self, test: str, reason: str) -> bool:
        return fnmatchcase(test, self.test) and re.fullmatch(self.reason, reason, re.DOTALL) is not None


def entries(text: str) -> list[Entry]:
    """Raises TypeError where an entry lacks a key or has one too many."""
    return [Entry(**row) for row in tomllib.loads(text).get("skip", [])]


def unreviewed(skips: list[tuple[str, str]], allowed: list[Entry]) -> list[str]:
    """One line for each skipped test and its reason that no entry allows."""
    return [
        f"{test}: {reason}"
        for test, reason in sorted(set(skips))
        if not any(entry.allows(test, reason) for entry in allowed)
    ]


def reason_of(longrepr: object) -> str:
    """pytest gives path, line and reason of a skip, or its traceback as text."""
    told = cast("tuple[object, ...]", longrepr)[-1] if isinstance(longrepr, tuple) else longrepr
    return str(told).removeprefix("Skipped: ")


@dataclass(eq=False)  # pytest keeps its plugins in a set
class Gate:
    """Collects skips in the process that prints the summary: with pytest-xdist, workers send their
    reports there.
    """

    allowed: list[Entry]
    skips: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skips.append((report.nodeid, reason_of(report.longrepr)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skips.append((report.nodeid, reason_of(report.longrepr)))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if unreviewed(self.skips, self.allowed) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if lines := unreviewed(self.skips, self.allowed):
            terminalreporter.section("skips that nobody has reviewed")
            terminalreporter.write_line(f"Install what is missing, or add an entry to {REVIEWED.name}.")
            for line in lines:
                terminalreporter.write_line(line)


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        OPTION, action="store_true", help=f"fail where a test is skipped that {REVIEWED.name} does not allow"
    )


def register(config: pytest.Config) -> None:
    """In the process that was started; a worker of pytest-xdist has nothing to judge."""
    if config.getoption(OPTION):
        config.pluginmanager.register(Gate(entries(REVIEWED.read_text())), "reviewed-skips")
