"""Makes the sink of the record store from the config, and from what `modelplex run` says of a run.

The sink opens its database on its own thread. A store that the config names must be usable at the
start, unless it is a server that cannot be reached now, or its disk is full.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec

from modelplex.config import Config
from modelplex.config.state_folder import make_state_folder, state_folder
from modelplex.dialects.registry import find
from modelplex.records.admin_act import AdminAct
from modelplex.records.log import Log
from modelplex.records.record import Record
from modelplex.records.run_facts import RunFacts
from modelplex.records.sink import Sink
from modelplex.records.store_sink import RetentionRules, RunInfo, StoreOptions, StoreSink
from modelplex.records.tool_call import ToolRecord

if TYPE_CHECKING:
    from modelplex.records.store.database import Database

FILE: Final = "records.sqlite"
"""In the state folder."""
RUN_VARIABLE: Final = "MODELPLEX_RUN"
"""The environment variable in which `modelplex run` describes the run to the gateway that it
starts: a RunInfo as JSON, "shared" where several runs use the gateway, which are then told apart by
their processes, or "off" where nothing is recorded.
"""
OFF: Final = "off"
SHARED: Final = "shared"
MAX_RESPONSE: Final = 16_777_216
"""Bytes of a response that are stored. A longer one is cut, and the call says so."""


def run_of(environ: Mapping[str, str]) -> RunInfo | None:
    """The one run that this gateway serves and records, if there is one."""
    text = environ.get(RUN_VARIABLE, OFF)
    return None if text in {OFF, SHARED} else msgspec.json.decode(text, type=RunInfo)


def content_of(config: Config, environ: Mapping[str, str]) -> str:
    """What is recorded: "off", "metadata" or "full"."""
    if environ.get(RUN_VARIABLE) == OFF:
        return OFF
    return config.record.content or ("full" if RUN_VARIABLE in environ else "metadata")


KEY_FILE: Final = "record-key"
"""In the state folder: the private key that signs the chains of runs."""


def record_key(config: Config, environ: Mapping[str, str]) -> Path | None:
    """None for a user without a home."""
    try:
        return state_folder(config.server.state_folder, environ=environ) / KEY_FILE
    except RuntimeError:
        return None


def sign_with(path: Path, message: bytes) -> tuple[bytes, bytes]:
    """The public key and the signature, with the key in this file, which is made at the first use.
    Blocks. Raises StoreUnavailable.
    """
    from modelplex.records.ed25519 import KEY_BYTES, public_key, sign
    from modelplex.records.store.database import StoreUnavailable

    try:
        make_state_folder(path.parent)
        with suppress(FileExistsError):
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(os.urandom(KEY_BYTES))
        private = path.read_bytes()
    except OSError as error:
        raise StoreUnavailable(f"{path}: {(error.strerror or str(error)).lower()}.") from None
    if len(private) != KEY_BYTES:
        raise StoreUnavailable(f"{path} is no key of {KEY_BYTES} bytes: remove it, and another is made.")
    return public_key(private), sign(private, message)


def store_place(config: Config, environ: Mapping[str, str]) -> str:
    """A path, or an address of PostgreSQL. Raises StoreUnavailable where there is no home."""
    from modelplex.records.store.database import StoreUnavailable

    if config.record.store is not None:
        return config.record.store.reveal()
    try:
        return str(state_folder(config.server.state_folder, environ=environ) / FILE)
    except RuntimeError:
        raise StoreUnavailable("this user has no home to keep records in.") from None


def host_of(config: Config) -> str:
    """The name of this host in the record."""
    return config.record.host or socket.gethostname()


def store_secrets(config: Config) -> Sequence[str]:
    """The password in the address of the store."""
    place = config.record.store.reveal() if config.record.store is not None else ""
    if "://" not in place:
        return ()
    try:
        password = urlsplit(place).password
    except ValueError:
        return (place,)
    return () if not password else (password, unquote(password))


def conversation_members(dialect: str) -> Sequence[str]:
    """The members of a body that hold the conversation, the messages first: those whose rows have
    the leaf `messages`.
    """
    found = find(dialect)
    return () if found is None or found.write_count is not None else found.family.conversation


def open_to_read(place: str) -> Database:
    """The store at `place`, as store_place returns it. Blocks; raises StoreError."""
    from modelplex.records.store.backlog import ReadDatabase
    from modelplex.records.store.database import open_database

    return ReadDatabase(
        open_database(place, read_only=True),
        open_store=partial(open_database, place),
        conversation=conversation_members,
    )


class RecordStore:
    """The sink of one gateway; `sink` is None where nothing is recorded. `log` knows the
    secrets.
    """

    def __init__(self, config: Config, *, environ: Mapping[str, str], log: Log) -> None:
        self._environ = environ
        self._log = log
        self._run = run_of(environ)
        self._config = self.config = config
        self._runs: dict[str, RunInfo] = {}
        self._unrecorded: set[str] = set()
        """Ids of attached runs."""
        content = content_of(config, environ)
        self._kept = {OFF: None, "metadata": 0}.get(content, MAX_RESPONSE)
        self.sink = (
            None
            if content == OFF
            else StoreSink(self._open, self._options(config), rules=_rules(config), report=log.events)
        )

    def __repr__(self) -> str:
        return f"<RecordStore {self.sink}>"

    @property
    def run_id(self) -> str:
        """Of the one run of this gateway; "" where it serves others."""
        return self._run.id if self._run is not None else ""

    @property
    def sinks(self) -> list[Sink]:
        """The sink of the process's Records, where they are stored."""
        return [] if self.sink is None else [self]

    def record(self, record: Record | ToolRecord, /) -> None:
        if self.sink is not None and self.is_recorded(record.run):
            self.sink.record(record)

    @property
    def on_session(self) -> Callable[[ToolRecord], None] | None:
        """Takes requests of tool clients that are no calls: they are kept with runs of `modelplex
        run`, for a replay, where bodies are stored. They are nothing that a log or a page shows.
        """
        is_kept = self._kept == MAX_RESPONSE and RUN_VARIABLE in self._environ
        return self._record_session if is_kept else None

    def _record_session(self, record: ToolRecord) -> None:
        if self._run is not None or record.run:
            self.record(record)

    def is_recorded(self, run: str) -> bool:
        """Whether calls of this run may leave a trace; "" is no run."""
        return run not in self._unrecorded

    def kept_body(self, config: Config) -> int | None:
        """Bytes of each response that a Record gets beside the request, for the log and the store;
        None where it has no bodies.
        """
        logged = config.log.max_body if self._log.bodies else None
        return max((each for each in (logged, self._kept) if each is not None), default=None)

    def keeps_tokens(self, config: Config) -> bool:
        """Whether token ids are stored: what they say is what bodies say."""
        return config.record.tokens and self._kept == MAX_RESPONSE

    async def start(self) -> None:
        """Start writing. Raises StoreError where the config names a store that cannot be used."""
        if self.sink is None:
            return
        if self._config.record.store is not None:
            await asyncio.to_thread(self._check, self.sink)
        self.sink.start()

    def _check(self, sink: StoreSink) -> None:
        from modelplex.records.store.database import StoreFull, StoreUnavailable, is_postgresql

        try:
            sink.open()
        except StoreFull:
            pass  # the thread tries again, and says so
        except StoreUnavailable:
            if not is_postgresql(store_place(self._config, self._environ)):
                raise

    def configure(self, config: Config) -> None:
        """Tags and limits of another config. Another store or content needs a restart."""
        self.config = config
        if self.sink is not None:
            self.sink.configure(self._options(config), _rules(config))

    def record_facts(self, facts: RunFacts) -> None:
        """For the store alone."""
        if self.sink is not None and facts.run not in self._unrecorded:
            self.sink.record(facts)

    def record_act(self, act: AdminAct) -> None:
        """For the store alone. Of runs that may leave no trace, it names none."""
        if self.sink is not None:
            runs = tuple(run for run in act.runs if run not in self._unrecorded)
            target = "run" if act.target.removeprefix("run ") in self._unrecorded else act.target
            self.sink.record(msgspec.structs.replace(act, runs=runs, target=target))

    def open_run(self, run: RunInfo, *, is_recorded: bool) -> None:
        """Calls that name this run are recorded as of it, or not at all."""
        if is_recorded:
            self._runs = {**self._runs, run.id: run}
            self.configure(self.config)
        else:
            self._unrecorded.add(run.id)

    async def end_run(self, run: str) -> None:
        """Write its records, for some seconds at most."""
        self._unrecorded.discard(run)
        if run in self._runs and self.sink is not None:
            await asyncio.to_thread(self.sink.end_run, run)
            self._runs = {id_: each for id_, each in self._runs.items() if id_ != run}
            self.configure(self.config)

    async def close(self) -> None:
        """Write what waits, for some seconds at most."""
        if self.sink is not None and not await asyncio.to_thread(self.sink.close):
            self._log.events.error("the last records could not be stored")

    def status(self) -> dict[str, object] | None:
        """For `/_internal/status`."""
        return None if self.sink is None else msgspec.to_builtins(self.sink.status())

    def lost(self) -> dict[str, int]:
        """For `/_internal/metrics`: what was lost, by reason."""
        if self.sink is None:
            return {}
        status = self.sink.status()
        return {"dropped": status.dropped, "without_bodies": status.without_bodies}

    @property
    def waiting(self) -> int:
        """Calls that are not written yet."""
        return self.sink.status().waiting if self.sink is not None else 0

    def is_failing(self) -> bool:
        return self.sink is not None and bool(self.sink.status().failure)

    def open_for_reading(self) -> Database:
        """Another connection. Blocks; raises StoreError."""
        return open_to_read(store_place(self._config, self._environ))

    def _open(self) -> Database:
        from modelplex.records.store.database import open_database

        return open_database(store_place(self._config, self._environ))

    def _options(self, config: Config) -> StoreOptions:
        key = record_key(config, self._environ)
        return StoreOptions(
            content=content_of(self._config, self._environ) == "full",
            conversation=conversation_members,
            tags={agent.name: agent.tags for agent in config.agents if agent.tags},
            mask=self._log.mask,
            run=self._run,
            sign=partial(sign_with, key) if self._run is not None and key is not None else None,
            runs=self._runs,
            host=host_of(config),
        )


def _rules(config: Config) -> RetentionRules:
    return RetentionRules(config.record.max_age, config.record.max_size)
