"""Records as one blob, and back: how they are kept until rows are made of them. Pure.

Of a large body a blob has what it adds to one before in the same blob: an agent sends its whole
conversation with every request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from modelplex.records.record import Record
from modelplex.records.sink import without_bodies
from modelplex.records.tool_call import ToolRecord

LEAST_SHARED: Final = 2_048
"""Bytes of a body that is compared with others."""
COMPARED: Final = 16
"""Bodies that one is compared with: the last ones of conversations."""
COMPARED_BYTES: Final = 4_194_304
"""Bytes of them."""
PROBE: Final = 64
"""Bytes by which bodies are compared first: a model, and how a system prompt begins."""
SEAM: Final = 4_096
"""Bytes on each side of a cut that are searched for secrets: more than any has."""


class Turns(msgspec.Struct, frozen=True, array_like=True):
    """Where a call is in its conversation: conversations.Call."""

    turns: tuple[bytes, ...] = ()
    context: bytes | None = None


class _Shared(msgspec.Struct, frozen=True, array_like=True):
    """A large body: so many bytes of an earlier one, by its number, and the rest."""

    number: int
    same: int
    rest: bytes


class _Blob(msgspec.Struct, frozen=True, array_like=True):
    """`calls` and `tools` in the order of `is_tool`. `shared` has the large bodies of each call by
    its place: of the request at -1, and of what was sent by the attempt. `turns` is empty where
    bodies are packed. `tags` are those of each agent, `host` is the gateway's.
    """

    is_tool: list[bool]
    calls: list[Record]
    tools: list[ToolRecord]
    shared: dict[int, dict[int, _Shared]]
    turns: list[Turns]
    tags: Mapping[str, Mapping[str, str]]
    host: str = ""


class _Written(msgspec.Struct, frozen=True, array_like=True):
    """The same, of Records that are encoded already."""

    is_tool: list[bool]
    calls: list[msgspec.Raw]
    tools: list[msgspec.Raw]
    shared: dict[int, dict[int, _Shared]]
    turns: list[Turns]
    tags: Mapping[str, Mapping[str, str]]
    host: str


class Packed(msgspec.Struct, frozen=True):
    """`seams` is what is on both sides of each place at which a body was cut, for a search for what
    may stand there.
    """

    blob: bytes
    seams: bytes


class Unpacked(msgspec.Struct, frozen=True):
    """Records with their turns, or with None where their bodies are there."""

    records: list[tuple[Record | ToolRecord, Turns | None]]
    tags: Mapping[str, Mapping[str, str]]
    host: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Blob).decode


class Pack:
    """The Records of one blob, of which each is encoded as it is added: then its bodies are in the
    processor's caches, and need not be kept. `turns` of a call, where bodies are not to be packed.
    """

    def __init__(
        self,
        *,
        tags: Mapping[str, Mapping[str, str]],
        host: str = "",
        turns: Callable[[Record], Turns] | None = None,
    ) -> None:
        self.count = 0
        """Records."""
        self.bytes = 0
        """Of them, encoded."""
        self.runs: set[str] = set()
        """Those that calls name."""
        self._tags = tags
        self._host = host
        self._turns_of = turns
        self._bodies = _Shares()
        self._is_tool: list[bool] = []
        self._calls: list[msgspec.Raw] = []
        self._tools: list[msgspec.Raw] = []
        self._shared: dict[int, dict[int, _Shared]] = {}
        self._turns: list[Turns] = []

    def __repr__(self) -> str:
        return f"<Pack {self.count} records, {self.bytes} bytes>"

    def add(self, record: Record | ToolRecord) -> bool:
        """False where a text has no form in UTF-8, or a number is too large: it is not added, and
        nothing may be after it.
        """
        shared: dict[int, _Shared] | None = None
        is_tool = isinstance(record, ToolRecord)
        kept = record
        try:
            if self._turns_of is not None:
                if not isinstance(record, ToolRecord):
                    self._turns.append(self._turns_of(record))
                kept = without_bodies(record)
            elif not isinstance(record, ToolRecord) and _is_large(record):
                kept, shared = self._bodies.share(record)
            encoded = _encode(kept)
        except (UnicodeEncodeError, OverflowError):
            del self._turns[len(self._calls) :]
            return False
        self.count += 1
        self.bytes += len(encoded)
        if shared is not None:
            self._shared[len(self._calls)] = shared
            self.bytes += sum(len(each.rest) for each in shared.values())
        (self._tools if is_tool else self._calls).append(msgspec.Raw(encoded))
        self._is_tool.append(is_tool)
        if record.run:
            self.runs.add(record.run)
        return True

    def packed(self) -> Packed:
        is_tool = self._is_tool if self._tools else []
        written = _Written(
            is_tool, self._calls, self._tools, self._shared, self._turns, self._tags, self._host
        )
        return Packed(_encode(written), b"\0".join(self._bodies.seams))


def pack(
    records: Iterable[Record | ToolRecord],
    *,
    tags: Mapping[str, Mapping[str, str]],
    host: str = "",
    turns: Callable[[Record], Turns] | None = None,
) -> Pack | None:
    """None where one of them cannot be added."""
    made = Pack(tags=tags, host=host, turns=turns)
    return made if all(made.add(record) for record in records) else None


def unpack(blob: bytes) -> Unpacked:
    read = _decode(blob)
    bodies: list[bytes] = []
    calls = [
        _joined(call, read.shared[number], bodies) if number in read.shared else call
        for number, call in enumerate(read.calls)
    ]
    models = zip(calls, read.turns or (None,) * len(calls), strict=True)
    tools = iter(read.tools)
    order = read.is_tool or (False,) * len(calls)
    found: list[tuple[Record | ToolRecord, Turns | None]] = [
        (next(tools), None) if is_tool else next(models) for is_tool in order
    ]
    return Unpacked(found, read.tags, read.host)


def _is_large(record: Record) -> bool:
    body = record.request_body
    if body is not None and len(body) >= LEAST_SHARED:
        return True
    for attempt in record.attempts:  # noqa: SIM110 - for each call, and there is mostly one attempt
        if attempt.sent is not None and len(attempt.sent) >= LEAST_SHARED:
            return True
    return False


_REQUEST: Final = -1


class _Shares:
    """The large bodies of a blob, as it is made. They are known by their numbers."""

    def __init__(self) -> None:
        self._count = 0
        self._known: list[tuple[int, bytes]] = []
        """The last bodies of conversations, the newest last."""
        self._bytes = 0
        self.seams: list[bytes] = []

    def share(self, record: Record) -> tuple[Record, dict[int, _Shared]]:
        """The Record without the bodies that are large, and those."""
        found: dict[int, _Shared] = {}
        request = record.request_body
        if request is not None and len(request) >= LEAST_SHARED:
            found[_REQUEST] = self._shared(request)
            request = None
        attempts = record.attempts
        for number, attempt in enumerate(attempts):
            if attempt.sent is not None and len(attempt.sent) >= LEAST_SHARED:
                found[number] = self._shared(attempt.sent)
                without = msgspec.structs.replace(attempt, sent=None)
                attempts = (*attempts[:number], without, *attempts[number + 1 :])
        return msgspec.structs.replace(record, request_body=request, attempts=attempts), found

    def _shared(self, body: bytes) -> _Shared:
        """Of one that another goes on from, the other takes the place."""
        found = _Shared(0, 0, body)
        known, half = self._known, len(body) // 2 + 1
        for place in range(len(known) - 1, -1, -1):
            number, other = known[place]
            if body.startswith(other[:PROBE]) and body.startswith(other[:half]) and len(other) >= half:
                same = _same(body, other)
                found = _Shared(number, same, body[same:])
                if same < len(body):
                    self.seams.append(body[max(0, same - SEAM) : same + SEAM])
                self._bytes -= len(other)
                del known[place]
                break
        known.append((self._count, body))
        self._count += 1
        self._bytes += len(body)
        while len(known) > COMPARED or (self._bytes > COMPARED_BYTES and len(known) > 1):
            self._bytes -= len(known.pop(0)[1])
        return found


def _joined(record: Record, shared: Mapping[int, _Shared], bodies: list[bytes]) -> Record:
    """The Record with its bodies, which are added to `bodies`, those before it."""
    request, attempts = record.request_body, list(record.attempts)
    for number, each in shared.items():
        body = bodies[each.number][: each.same] + each.rest if each.same else each.rest
        bodies.append(body)
        if number == _REQUEST:
            request = body
        else:
            attempts[number] = msgspec.structs.replace(attempts[number], sent=body)
    return msgspec.structs.replace(record, request_body=request, attempts=tuple(attempts))


def _same(body: bytes, known: bytes) -> int:
    """With how many equal bytes both begin."""
    if body == known:
        return len(body)
    low, high = 0, min(len(body), len(known))
    while low < high:
        middle = (low + high + 1) // 2
        if body[low:middle] == known[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
