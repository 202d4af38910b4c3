"""Protects a project's files for the time of a run: names them at the start, and reports at the end
what the program made that runs programs on the host.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

from modelplex.sandbox.placeholders import placeholders
from modelplex.sandbox.plan import print_error, protected_files, working_folder
from modelplex.sandbox.protected import Protected

NAMED_AT_MOST = 6
"""Files of one kind in a line. A project may have any number."""


@contextmanager
def protection(arguments: argparse.Namespace) -> Generator[Protected]:
    """Raises CannotRun."""
    found = protected_files(arguments)
    here = working_folder()
    if sentence := start_line(found, here=here, to_person=sys.stderr.isatty()):
        print_error(sentence)
    before = {path: file_state(path) for path in (*found.read_only, *found.watched, *found.links)}
    with placeholders(found.missing):
        yield found
    if not arguments.no_protect and arguments.fs != "host":
        for sentence in end_lines(found, protected_files(arguments), before, here=here):
            print_error(sentence)


def file_state(path: str) -> tuple[int, ...] | None:
    """Changes with the file, or with a link at its path; None where there is none."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def start_line(found: Protected, *, here: str, to_person: bool = True) -> str:
    """What is protected, and what is not. "" where nothing is. A program that reads stderr gets
    what it could not see itself: hidden files, and what is not protected.
    """
    if not (to_person or found.hidden or found.links or not found.is_complete):
        return ""
    git = _of_git(found)
    others = [path for path in found.read_only if not any(path.startswith(f"{each}/") for each in git)]
    others = [path for path in others if path not in git]
    parts: list[str] = []
    if others:
        parts.append(_names(others, here))
    if git:
        parts.append(f"configuration and hooks of {_names(git, here)}")
    sentences = [f"read-only: {', '.join(parts)} (--no-protect)"] if parts else []
    if found.hidden:
        sentences.append(f"hidden: {_names(found.hidden, here)} (--show-env)")
    if found.links:
        sentences.append(f"not protected, since they are links: {_names(found.links, here)}")
    if not found.is_complete:
        sentences.append("not all protected, since the project has too many files")
    return "; ".join(sentences)


def end_lines(
    before: Protected, after: Protected, states: dict[str, tuple[int, ...] | None], *, here: str
) -> list[str]:
    """What runs programs on the host, and is new or has changed."""
    changed = [path for path, state in states.items() if file_state(path) not in {None, state}]
    changed = [path for path in changed if path not in before.missing]
    new = [path for path in after.repositories if path not in before.repositories]
    new = [path for path in new if not _is_below(path, new)]
    lines: list[str] = []
    if new:
        lines.append(
            f"the program made a git repository, whose configuration and hooks run programs when you use git there: look at {_names(new, here)} first"
        )
    if changed:
        lines.append(
            f"while the program ran, something changed {_names(changed, here)}, which may run programs on the host: look at it first"
        )
    if made := [path for path in after.hidden if path not in before.hidden]:
        lines.append(
            f"the program made {_names(made, here)}, whose variables other programs may take: look at it first"
        )
    return lines


def _of_git(found: Protected) -> list[str]:
    """The git folders of which something is read-only, without those in others."""
    some = [
        path
        for path in found.repositories
        if path in found.read_only or any(each.startswith(f"{path}/") for each in found.read_only)
    ]
    return [path for path in some if not _is_below(path, some)]


def _is_below(path: str, others: Iterable[str]) -> bool:
    return any(path.startswith(f"{other}/") for other in others)


def _names(paths: Sequence[str], here: str) -> str:
    named = [path.removeprefix(f"{here}/") for path in paths[:NAMED_AT_MOST]]
    more = len(paths) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
