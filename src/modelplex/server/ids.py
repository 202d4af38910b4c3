"""Identifiers of requests and sessions."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator


def request_ids() -> Iterator[str]:
    """Ids of requests: ascending, and unlike those of any other run."""
    run_name = os.urandom(4).hex()
    return (f"mpx-{run_name}-{number:06x}" for number in itertools.count(1))


def session_ids() -> Callable[[], str]:
    """Ids of sessions, which nobody can guess: 128 random bits."""
    return lambda: os.urandom(16).hex()
