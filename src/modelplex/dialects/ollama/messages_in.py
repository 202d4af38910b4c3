"""Reads `messages` of /api/chat. What Ollama's clients leave out is made here: the id of a call,
the call of a result, the kind of an image.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import (
    ImagePart,
    InlineData,
    Message,
    Part,
    Place,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from modelplex.dialects.core.members import decode_each, decode_open
from modelplex.dialects.core.pending_calls import PendingCalls
from modelplex.dialects.core.tool_results import joined_results

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_CALL = {"name": "function.name", "arguments": "function.arguments"}
"""What the members of a call are called here, for Place."""
_HEAD = 24
"""Characters of base64 that hold the bytes which identify the kind of an image."""
_KINDS: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"BM", 0, "image/bmp"),
)


class _Function(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    function: _Function
    id: str | None = None
    type: str | None = None


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[msgspec.Raw] | None = None
    tool_name: str | None = None
    name: str | None = None  # what `tool_name` was called at first
    tool_call_id: str | None = None


def read_messages(raw: msgspec.Raw) -> tuple[Message, ...]:
    """Raises BadRequest with `param` like "messages[2].images[0]"."""
    return _MessageReader().read(raw)


class _MessageReader:
    """Reads the messages in order, and knows which calls have no result yet: many clients name a
    result's tool and not its call.
    """

    def __init__(self) -> None:
        self._open: PendingCalls[ToolCallPart] = PendingCalls()
        self._made = 0

    def read(self, raw: msgspec.Raw) -> tuple[Message, ...]:
        messages: list[Message] = []
        for n, (message, extra) in enumerate(decode_each(raw, _Message, path="messages")):
            path = f"messages[{n}]"
            if message.role == "tool":
                result = self._result(message, extra, path=path)
                messages.append(Message("tool", (result,), path=path))
                continue
            role = _ROLES.get(message.role)
            if role is None:
                raise BadRequest(
                    f"'{path}.role' must be system, user, assistant or tool.", param=f"{path}.role"
                )
            parts = tuple(self._parts(message, path))
            messages.append(Message(role, parts, path=path, extra=extra))
        return tuple(joined_results(messages))

    def _parts(self, message: _Message, path: str) -> list[Part]:
        parts: list[Part] = []
        if message.thinking:
            parts.append(ReasoningPart(message.thinking, at=Place(path, ".thinking")))
        parts += _read_images(message, path)
        calls = [
            self._call(raw, Place(path, ".tool_calls", n, _CALL))
            for n, raw in enumerate(message.tool_calls or ())
        ]
        if message.content or not (parts or calls):
            parts.append(TextPart(message.content or "", at=Place(path, ".content")))
        for call in calls:
            self._open.add(call.id, call.name, call)
        return [*parts, *calls]

    def _call(self, raw: msgspec.Raw, place: Place) -> ToolCallPart:
        call, extra = decode_open(raw, _Call, path=place)
        arguments = bytes(call.function.arguments).strip()
        if arguments in {b"", b"null"}:
            arguments = b"{}"
        if not arguments.startswith(b"{"):
            where = place.member("arguments")
            raise BadRequest(f"'{where}' must be an object.", param=where)
        id_ = call.id or f"call_{self._made}"
        self._made += 1
        return ToolCallPart(id_, call.function.name, arguments.decode(), at=place, extra=extra)

    def _result(self, message: _Message, extra: Mapping[str, msgspec.Raw], *, path: str) -> ToolResultPart:
        name = message.tool_name or message.name
        call = self._open.take(message.tool_call_id, name or None, or_any=True)
        if call is None:
            of = message.tool_call_id or name or "a tool"
            raise BadRequest(f"'{path}' is the result of {of}, for which no call is waiting.", param=path)
        parts: list[Part] = []
        if message.content or not message.images:
            parts.append(TextPart(message.content or "", at=Place(path, ".content")))
        parts += _read_images(message, path)
        return ToolResultPart(call.id, tuple(parts), name=call.name, at=Place(path), extra=extra)


def _read_images(message: _Message, path: str) -> list[ImagePart]:
    return [read_image(data, Place(path, ".images", n)) for n, data in enumerate(message.images or ())]


def read_image(data: str, place: Place) -> ImagePart:
    """Bare base64, whose first bytes identify the kind of image. Raises BadRequest."""
    try:
        head = b64decode(data[:_HEAD])
    except ValueError:
        head = b""
    for mark, at, media_type in _KINDS:
        if head[at : at + len(mark)] == mark:
            return ImagePart(InlineData(media_type, data), at=place)
    raise BadRequest(
        f"'{place}' must be the base64 of a PNG, JPEG, GIF, WebP or BMP image, without a data: prefix.",
        param=str(place),
    )
