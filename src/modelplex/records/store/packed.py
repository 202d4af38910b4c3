"""Records as one blob, and back: how they are kept until rows are made of them. Pure.

Of a large body a blob has what it adds to one before in the same blob: an agent sends its whole
conversation with every request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from modelplex.records.record import Record
from modelplex.records.sink import without_bodies
from modelplex.records.tool_call import ToolRecord

LEAST_SHARED: Final = 2_048
"""Bytes of a body that is compared with others."""
COMPARED: Final = 16
"""Bodies that one is compared with: the last ones."""
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
    bodies are packed. `tags` are those of each agent.
    """

    is_tool: list[bool]
    calls: list[Record]
    tools: list[ToolRecord]
    shared: dict[int, dict[int, _Shared]]
    turns: list[Turns]
    tags: Mapping[str, Mapping[str, str]]


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


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Blob).decode


def pack(
    records: Sequence[Record | ToolRecord],
    *,
    tags: Mapping[str, Mapping[str, str]],
    turns: Callable[[Record], Turns] | None = None,
) -> Packed | None:
    """`turns` of a call, where bodies are not to be packed. Returns None where a text has no form
    in UTF-8, or a number is too large.
    """
    bodies, calls, tools = _Bodies(), list[Record](), list[ToolRecord]()
    shared: dict[int, dict[int, _Shared]] = {}
    places: list[Turns] = []
    for record in records:
        if isinstance(record, ToolRecord):
            tools.append(record)
            continue
        if turns is not None:
            places.append(turns(record))
        elif _is_large(record):
            record, shared[len(calls)] = bodies.share(record)  # noqa: PLW2901 - the same call
        calls.append(record)
    if turns is not None:
        calls = [without_bodies(record) for record in calls]
        tools = [without_bodies(record) for record in tools]
    is_tool = [isinstance(record, ToolRecord) for record in records] if tools else []
    try:
        blob = _encode(_Blob(is_tool, calls, tools, shared, places, tags))
    except (UnicodeEncodeError, OverflowError):
        return None
    return Packed(blob, b"\0".join(bodies.seams))


def unpack(blob: bytes) -> Unpacked:
    read, bodies = _decode(blob), _Bodies()
    calls = [
        bodies.join(call, read.shared[number]) if number in read.shared else call
        for number, call in enumerate(read.calls)
    ]
    models = zip(calls, read.turns or (None,) * len(calls), strict=True)
    tools = iter(read.tools)
    order = read.is_tool or (False,) * len(calls)
    return Unpacked([(next(tools), None) if is_tool else next(models) for is_tool in order], read.tags)


def _is_large(record: Record) -> bool:
    if record.request_body is not None and len(record.request_body) >= LEAST_SHARED:
        return True
    return any(attempt.sent is not None and len(attempt.sent) >= LEAST_SHARED for attempt in record.attempts)


_REQUEST: Final = -1


class _Bodies:
    """The large bodies of a blob in their order, as it is written or read."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []
        self.seams: list[bytes] = []

    def share(self, record: Record) -> tuple[Record, dict[int, _Shared]]:
        """The Record without the bodies that are large, and those."""
        found: dict[int, _Shared] = {}
        request = record.request_body
        if request is not None and len(request) >= LEAST_SHARED:
            found[_REQUEST] = self._shared(request)
            request = None
        attempts = list(record.attempts)
        for number, attempt in enumerate(attempts):
            if attempt.sent is not None and len(attempt.sent) >= LEAST_SHARED:
                found[number] = self._shared(attempt.sent)
                attempts[number] = msgspec.structs.replace(attempt, sent=None)
        return msgspec.structs.replace(record, request_body=request, attempts=tuple(attempts)), found

    def join(self, record: Record, shared: Mapping[int, _Shared]) -> Record:
        request, attempts = record.request_body, list(record.attempts)
        for number, each in shared.items():
            body = self._bodies[each.number][: each.same] + each.rest if each.same else each.rest
            self._bodies.append(body)
            if number == _REQUEST:
                request = body
            else:
                attempts[number] = msgspec.structs.replace(attempts[number], sent=body)
        return msgspec.structs.replace(record, request_body=request, attempts=tuple(attempts))

    def _shared(self, body: bytes) -> _Shared:
        bodies = self._bodies
        found = _Shared(0, 0, body)
        for number in range(len(bodies) - 1, max(-1, len(bodies) - 1 - COMPARED), -1):
            known = bodies[number]
            if body.startswith(known[:PROBE]) and (same := _same(body, known)) > len(body) // 2:
                found = _Shared(number, same, body[same:])
                if same < len(body):
                    self.seams.append(body[max(0, same - SEAM) : same + SEAM])
                break
        bodies.append(body)
        return found


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
