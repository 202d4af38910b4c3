"""Reasoning items of a body that passes to a service which reads its own sealed ones alone.

An item without `encrypted_content` names what the service stored. Nothing is stored there, since
every request has `store: false`, so it answers "Item with id 'rs_...' not found"
(https://github.com/anomalyco/opencode/issues/7724). Such items come from another provider's turns.
"""

from __future__ import annotations

import msgspec

from modelplex.core.request import Change, Quirks, RawRequest
from modelplex.dialects.core.json import MALFORMED

UNSEALED = "reasoning that is not sealed is not kept at this service"
"""The reason in reports."""


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    encrypted_content: str | None = None


_decode_input = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_item = msgspec.json.Decoder(_Item).decode


def without_unsealed(
    raw: msgspec.Raw | None, raw_request: RawRequest, quirks: Quirks
) -> tuple[msgspec.Raw, tuple[Change, ...]] | None:
    """`input` (`raw`) without such items; None where there are none."""
    body = raw_request.body
    if raw is None or quirks.reasoning_back or body.count(b'"rs_') <= body.count(b'"encrypted_content":"'):
        return None
    try:
        items = _decode_input(raw)
        found = [_is_unsealed(_decode_item(item)) for item in items]
    except MALFORMED:
        return None  # a text alone, or the service names what is wrong with it
    changes = tuple(Change("drop", f"input[{n}]", UNSEALED) for n, is_lost in enumerate(found) if is_lost)
    kept = [item for item, is_lost in zip(items, found, strict=True) if not is_lost]
    return (msgspec.Raw(msgspec.json.encode(kept)), changes) if changes else None


def _is_unsealed(item: _Item) -> bool:
    return item.type == "reasoning" and not item.encrypted_content
