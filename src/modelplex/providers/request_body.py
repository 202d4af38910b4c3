"""Bodies in the form of one service, where it is not that of its dialect."""

from __future__ import annotations

from typing import Final

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
