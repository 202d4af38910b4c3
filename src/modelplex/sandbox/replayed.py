"""What `modelplex replay` and `modelplex run --record` add to a run: the recording that answers,
and the recording that is written.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from modelplex.config.recordings import ReplayPlan, missing_variables
from modelplex.sandbox.agent import Agent
from modelplex.sandbox.bridge import command_of
from modelplex.sandbox.errors import CannotRun, WrongArguments

if TYPE_CHECKING:
    from modelplex.config import Config


def read_plan(arguments: argparse.Namespace, config: str | None) -> ReplayPlan | None:
    """The plan of `modelplex replay`, whose recording is the first word of the command line; it is
    taken from there. None for `modelplex run`. Raises WrongArguments, and CannotRun where there is
    no such recording.
    """
    if not arguments.is_replay:
        return None
    if not arguments.command_line or arguments.command_line[0] == "--":
        raise WrongArguments(
            "it needs a recording: modelplex replay RUN -- COMMAND, or a file in the place of RUN"
        )
    recorded, *rest = arguments.command_line
    if rest[:1] != ["--"] and rest and rest[0].startswith("-"):
        raise WrongArguments(
            f"options stand before the recording: modelplex replay {rest[0]} ... {recorded} -- COMMAND"
        )
    arguments.command_line = rest
    if not command_of(rest):
        raise WrongArguments(f"it needs a program: modelplex replay {recorded} -- COMMAND")
    if arguments.on_miss != "live":
        _allow_missing_keys(config)
    is_file = os.path.lexists(recorded)
    if not is_file:
        _check_run(recorded, config)
    arguments.replay = ReplayPlan(
        run=None if is_file else recorded,
        file=os.path.realpath(recorded) if is_file else None,
        on_miss=arguments.on_miss,
        timing=arguments.timing,
        live_tools=arguments.live_tools,
        folder=str(Path.cwd()),
    )
    arguments.tag = [*arguments.tag, f"replay={recorded}"]
    plan: ReplayPlan = arguments.replay
    return plan


def _allow_missing_keys(config: str | None) -> None:
    """No provider is asked, and so no key is needed."""
    if config is None:
        return
    from modelplex.config import provider_types

    try:
        text = Path(config).read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return  # the gateway says what is wrong with it
    os.environ.update(missing_variables(text, os.environ, provider_types().values()))


def _check_run(id: str, config: str | None) -> None:
    from modelplex.records.store.database import StoreError
    from modelplex.records.store.queries import one_run
    from modelplex.server.record_store import open_to_read

    try:
        database = open_to_read(_store(config))
        try:
            found = one_run(database, id)
        finally:
            database.close()
    except StoreError as error:
        raise CannotRun(f"there is no recording {id}: no such file, and {error.sentence}") from None
    if found is None:
        raise CannotRun(
            f"there is no recording {id}: no such file, and no such run in {database.place} (modelplex runs lists them)."
        )


def _load(config: str | None) -> Config:
    from modelplex.config import load
    from modelplex.config.settings import Config

    return Config() if config is None else load(config, environ=os.environ, find_ollama=lambda: False)


def _store(config: str | None) -> str:
    from modelplex.server.record_store import store_place

    return store_place(_load(config), os.environ)


def options_of(arguments: argparse.Namespace) -> list[str]:
    """Of the gateway's process."""
    plan: ReplayPlan | None = getattr(arguments, "replay", None)
    return [] if plan is None else ["--replay", msgspec.json.encode(plan).decode()]


class RecordTarget(NamedTuple):
    """The file of --record: its open folder, and its name."""

    folder: int
    name: str


def open_target(
    arguments: argparse.Namespace, agent: Agent | None, config: str | None
) -> RecordTarget | None:
    """None without --record. Raises WrongArguments where there would be nothing to write."""
    written: str | None = arguments.record
    if written is None:
        return None
    if arguments.no_record or arguments.socket is not None:
        other = "--no-record" if arguments.no_record else "--socket"
        raise WrongArguments(f"--record needs the record of a gateway of its own: leave out {other}")
    if agent is not None and agent.socket is not None:
        raise WrongArguments(
            f"--record needs a gateway of its own, and the agent {agent.name!r} has a socket that several runs share"
        )
    if (content := _load(config).record.content) not in {None, "full"}:
        raise WrongArguments(
            f'--record needs bodies, and the config has [record] content = "{content}": set it to "full"'
        )
    folder, name = os.path.split(os.path.realpath(written))
    try:
        # Opened before the program runs, which may change links in the working folder.
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise WrongArguments(f"--record {written}: {folder}: {(error.strerror or '').lower()}") from None
    return RecordTarget(opened, name)


@contextmanager
def recording_to(target: RecordTarget | None, run: str, config: str | None) -> Generator[None]:
    """Write the run with this id to the file, once the block has ended. Raises CannotRun."""
    if target is None:
        yield
        return
    try:
        yield
        _save(run, config, target.folder, target.name)
    finally:
        os.close(target.folder)


def _save(run: str, config: str | None, folder: int, name: str) -> None:
    from modelplex.replay.recording import RecordingError
    from modelplex.replay.recording_file import save_recording
    from modelplex.replay.stored_run import recording_of_run

    try:
        recording = recording_of_run(_store(config), run)
        save_recording(recording, folder=folder, name=name)
    except RecordingError as error:
        raise CannotRun(f"no recording was written: {error.sentence}") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotRun(f"no recording was written to {name}: {reason}.") from None
