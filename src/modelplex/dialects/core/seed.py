"""The seed that a run or an agent sets, in a body for a provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from modelplex.core.request import Change
from modelplex.dialects.core.json import MALFORMED

REASON: Final = "the seed of the run or of the agent"

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def with_seed(body: bytes, path: Sequence[str], seed: int, *, refused: bool) -> tuple[bytes, Change | None]:
    """The body with the seed at `path`, and the change; the client's own seed stays. Without a
    path, or where the provider refuses a seed, the change says that it is left out. Other members
    keep their bytes.
    """
    if not path or refused:
        return body, Change("drop", "seed", f"{REASON}: the provider takes none")
    try:
        members = _decode(body)
        inner = _set(members, path, seed)
    except MALFORMED:
        return body, None
    if inner is None:
        return body, None
    return _encode(inner), Change("add", "seed", f"{REASON}: {seed}")


def _set(members: dict[str, msgspec.Raw], path: Sequence[str], seed: int) -> dict[str, msgspec.Raw] | None:
    name, *rest = path
    raw = members.get(name)
    if not rest:
        if raw is not None and bytes(raw) != b"null":
            return None
        return {**members, name: msgspec.Raw(_encode(seed))}
    inner = _decode(raw) if raw is not None and bytes(raw) != b"null" else {}
    found = _set(inner, rest, seed)
    return None if found is None else {**members, name: msgspec.Raw(_encode(found))}
