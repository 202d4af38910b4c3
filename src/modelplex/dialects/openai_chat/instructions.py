"""Instructions of a body that passes, as its service takes them: one system message at the
beginning (`core/system_messages.py`), no role `developer` and no `name` where it has none.

Of other messages every byte stays.
"""

from __future__ import annotations

from itertools import takewhile

import msgspec

from modelplex.core.request import Change, Quirks, RawRequest
from modelplex.dialects.core.json import MALFORMED
from modelplex.dialects.core.search import holds_any
from modelplex.dialects.core.system_messages import JOINED, NOTED
from modelplex.dialects.core.turns import INSTRUCTIONS, SYSTEM_NOTE

NO_DEVELOPER = "this service has no role 'developer'"
"""The reason in reports."""
NO_NAMES = "this service takes no names of messages"
_DEVELOPER, _SYSTEM, _ROLE, _NAME = b'"developer"', b'"system"', b'"role"', b'"name"'
_decode = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.encode
_Members = dict[str, msgspec.Raw]


def amended_instructions(
    raw_request: RawRequest, quirks: Quirks
) -> tuple[msgspec.Raw, tuple[Change, ...]] | None:
    """`messages` of a body with its instructions as the service takes them; None where they are."""
    raw = raw_request.fields.get("messages")
    if raw is None or not _may_differ(raw_request.body, quirks):
        return None
    changes: list[Change] = []
    try:
        messages = _decode(raw)
        roles = [_decode_any(message.get("role", b"null")) for message in messages]
        if not quirks.developer_role:
            for n, message in enumerate(messages):
                if roles[n] == "developer":
                    message["role"] = msgspec.Raw(_SYSTEM)
                    changes.append(Change("lower", f"messages[{n}].role", NO_DEVELOPER))
        if not quirks.message_names:
            named = [n for n, message in enumerate(messages) if message.pop("name", None) is not None]
            changes += [Change("drop", f"messages[{n}].name", NO_NAMES) for n in named]
        if quirks.system_messages == "first":
            messages = _with_system_first(messages, roles, changes)
    except MALFORMED:
        return None  # the service names what is wrong with it
    return (msgspec.Raw(_encode(messages)), tuple(changes)) if changes else None


def _may_differ(body: bytes, quirks: Quirks) -> bool:
    """Whether the messages may have what the service does not take. A quote inside a text is
    escaped, so that the marks are in no text.
    """
    if not quirks.developer_role and holds_any(body, (_DEVELOPER,)):
        return True
    if not quirks.message_names and holds_any(body, (_NAME,)):
        return True
    if quirks.system_messages == "anywhere":
        return False
    first = body.find(_SYSTEM)
    return first >= 0 and (body.find(_SYSTEM, first + 1) >= 0 or body.count(_ROLE, 0, first) > 1)


def instruction_marks(quirks: Quirks) -> tuple[bytes, ...]:
    """A body without these marks has nothing that `amended_instructions` changes."""
    developer = () if quirks.developer_role else (_DEVELOPER,)
    names = () if quirks.message_names else (_NAME,)
    system = () if quirks.system_messages == "anywhere" else (_SYSTEM,)
    return developer + names + system


def _with_system_first(
    messages: list[_Members], roles: list[object], changes: list[Change]
) -> list[_Members]:
    count = len(list(takewhile(INSTRUCTIONS.__contains__, roles)))
    leading, later = messages[:count], messages[count:]
    if count > 1:
        changes += [Change("move", f"messages[{n}]", JOINED) for n in range(1, count)]
        text = "\n\n".join(_text(message) for message in leading)
        leading = [{**leading[0], "content": msgspec.Raw(_encode(text))}]
    for n, message in enumerate(later, count):
        if roles[n] in INSTRUCTIONS:
            changes.append(Change("lower", f"messages[{n}]", NOTED))
            message["role"] = msgspec.Raw(b'"user"')
            message["content"] = msgspec.Raw(_encode(SYSTEM_NOTE + _text(message)))
    return leading + later


class _Text(msgspec.Struct, gc=False):
    text: str = ""


_decode_content = msgspec.json.Decoder(str | list[_Text] | None).decode


def _text(message: _Members) -> str:
    """The text of an instruction, which has no other parts."""
    content = _decode_content(message.get("content", b"null"))
    return content if isinstance(content, str) else "\n\n".join(part.text for part in content or ())
