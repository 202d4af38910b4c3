"""What a run of `modelplex run` and its gateway say to each other on the run's connection: lines of
JSON on a Unix socket that no sandbox shows.

The run sends a RunRequest with a listening socket, then the SandboxFacts before its program starts,
and shuts its side down at its end. The gateway answers with one RunReply, then with notices, and at
the end with RunEnded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from modelplex.config.run_sockets import FOLDER, MAX_PATH
from modelplex.config.state_folder import make_state_folder, state_folder
from modelplex.records.store_sink import RunInfo

MAX_LINE: Final = 1_048_576
"""Bytes of a line. A command that is longer than MAX_COMMAND is cut."""
MAX_COMMAND: Final = 32_768
"""Characters of a run's command in the record."""
MAX_NOTICE: Final = 1_000
"""Characters of a notice: one line of a terminal or a few."""
SUFFIX: Final = ".runs"
"""Of the socket at which runs attach."""


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`path` is that of the listening socket; `agent` a name of [[agents]], or "". `usd` and
    `tokens` are the budget of the run, None for no limit; `seed` is of its requests.
    `may_write_config`: the program may write to the folder of the config, so that the gateway loads
    no change of it meanwhile.
    """

    path: str
    run: RunInfo
    is_recorded: bool = True
    agent: str = ""
    usd: float | None = None
    tokens: int | None = None
    seed: int | None = None
    may_write_config: bool = False


class RunReply(msgspec.Struct, frozen=True, tag="reply"):
    """`refused` is a sentence, "" where the run is served. `pid` is the gateway's."""

    refused: str = ""
    pid: int = 0


class RunNotice(msgspec.Struct, frozen=True, tag="notice"):
    """For the person at the run's terminal: `what` failed or is silent, and `why`."""

    what: str
    why: str


class RunEnded(msgspec.Struct, frozen=True, tag="ended"):
    """`usd` and `tokens` are what the run, or all that share its budget, have spent, where it has a
    budget. `is_last`: no other run uses the gateway.
    """

    is_last: bool
    usd: float = 0.0
    tokens: int = 0


FromGateway = RunReply | RunNotice | RunEnded


def attach_path(config: str | None, *, environ: Mapping[str, str], agent: str = "") -> str | None:
    """The socket at which runs attach to the gateway of this config (a real path, or None without
    one), or to one that runs of an agent have started. None where there can be none.
    """
    with suppress(RuntimeError, OSError):
        folder = state_folder(None, environ=environ)
        make_state_folder(folder)
        make_state_folder(folder / FOLDER)
        if config is None:
            return None
        name = hashlib.sha256(f"{config}\0{agent}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        path = str(folder.absolute() / FOLDER / f"{name}{SUFFIX}")
        return path if len(os.fsencode(path)) <= MAX_PATH - len(".lock") else None
    return None
