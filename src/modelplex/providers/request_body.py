"""Bodies in the form of one service, where it is not that of its dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec

VERTEX_VERSION: Final = "vertex-2023-10-16"
"""https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai (read 2026-12-01)"""

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def vertex_body(body: bytes, *, version: str) -> bytes:
    """A Messages body for Vertex AI: the model is in the path only, and the version in the body.
    Its members keep their bytes.
    """
    members = _decoder.decode(body)
    members.pop("model", None)
    members["anthropic_version"] = msgspec.Raw(msgspec.json.encode(version))
    return msgspec.json.encode(members)


def with_added(body: bytes, added: Mapping[str, object], *, left_out: Sequence[str] = ()) -> bytes:
    """The body with members of the owner: those of an object are joined with what is there, and
    take precedence. `left_out` are the paths of members that are not added ("a.b").
    """
    members: dict[str, object] = dict(_decoder.decode(body))
    for name, value in added.items():
        if not isinstance(value, dict):
            members[name] = value
            continue
        given = cast("dict[str, object]", value)
        inner = {key: each for key, each in given.items() if f"{name}.{key}" not in left_out}
        if isinstance(there := members.get(name), msgspec.Raw):
            inner = {**_decoder.decode(there), **inner}
        members[name] = inner
    return msgspec.json.encode(members)
