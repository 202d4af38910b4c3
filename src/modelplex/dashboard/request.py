"""A request for the page, and what the page needs of its client and of the gateway.

The server implements `PageOutput` and `PageSources`; the page imports no server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qsl

import msgspec

from modelplex.records.metrics import Metrics
from modelplex.records.sink import Sink

if TYPE_CHECKING:
    from modelplex.records.store.database import Database

Headers = list[tuple[bytes, bytes]]


class PageOutput(Protocol):
    """The client of one request."""

    async def respond(self, status: int, head: Headers, body: bytes) -> None: ...
    async def start(self, head: Headers) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    def cancel_on_disconnect(self) -> None: ...


class ActNote(msgspec.Struct):
    """What a change says of itself, for its record: as in AdminAct. It is filled as soon as it is
    known, so that one that fails says it too.
    """

    target: str = ""
    detail: dict[str, object] = {}
    runs: tuple[str, ...] = ()


class PageRequest(msgspec.Struct, frozen=True):
    """`path` is below /_internal/, `headers` has the last of each name in lower case, `read` reads
    the body within a limit in bytes. `value` is the open segment of the path. `admin` and `may` are
    the name and the rights of who sends it, None where nobody has signed in.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    read: Callable[[int], Awaitable[bytes]]
    value: str = ""
    admin: str = ""
    may: frozenset[str] | None = None
    note: ActNote = msgspec.field(default_factory=ActNote)

    @property
    def arguments(self) -> dict[str, str]:
        """The query's arguments, the last of each name."""
        return dict(parse_qsl(self.query, keep_blank_values=True, max_num_fields=MAX_ARGUMENTS))


MAX_ARGUMENTS = 32
"""Of a query. The page sends at most ten."""


class LiveCall(msgspec.Struct, frozen=True, kw_only=True):
    """A model call in flight. `sent` is in bytes of its response, `seconds` since its start."""

    id: str
    agent: str
    listener: str
    model: str
    provider: str
    provider_model: str
    endpoint: str
    stream: bool
    seconds: float
    first_output: float | None
    sent: int
    attempts: int
    bytes_in: int


class SeenAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent, or a listener's callers without one (then `agent` is ""). `reach` is "" where
    nobody checks it; times are in Unix seconds, None if it was not seen.
    """

    agent: str
    listener: str
    client: str = ""
    pid: int | None = None
    uid: int | None = None
    reach: str = ""
    interfaces: tuple[str, ...] = ()
    since: float | None = None
    last: float | None = None


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A tool's or prompt's definition, or a server's instructions: the text now, and the one that
    was approved, None where this machine has not kept it.
    """

    server: str
    kind: str
    name: str
    state: str
    hash: str
    approved: str | None
    now: str
    before: str | None
    findings: tuple[str, ...] = ()


class ApprovedName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A definition as the page showed it."""

    kind: str
    name: str
    hash: str


class Stopped(msgspec.Struct, frozen=True):
    """`runs` has the run of each call that was stopped, "" for none. `is_refused`: the run that was
    named gets no more.
    """

    runs: list[str]
    is_refused: bool = False


class PageSources(Protocol):
    """The gateway as the page sees it."""

    metrics: Metrics
    is_recording: bool

    def stopping(self) -> bool: ...
    async def refresh(self, view: Literal["part", "calls"]) -> None:
        """Load what other processes of this gateway have: for the calls as they end, or for all
        else.
        """
        ...

    def running(self) -> list[LiveCall]: ...
    async def stop(self, *, request: str = "", agent: str = "", run: str = "") -> Stopped: ...

    def seen(self) -> list[SeenAgent]: ...
    def view(self, name: Literal["status", "agents", "mcp"]) -> Any: ...
    async def reset(self, provider: str) -> int: ...
    def open_store(self) -> Database:
        """A connection that only reads. Blocks; raises StoreError."""
        ...

    def attach(self, sink: Sink) -> None: ...
    def detach(self, sink: Sink) -> None: ...
    async def definitions(self) -> list[Definition]: ...
    async def approve(self, server: str, names: Sequence[ApprovedName]) -> int: ...
