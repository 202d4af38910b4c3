"""Envelopes: opaque state and its origin as one string, for a dialect with room for one string.

The content comes back byte for byte (docs/reference/translation.md#r15). Whether a provider may
receive it is decided by routing. An envelope is neither secret nor signed: a forged one makes the
provider reject its own state. Imports no dialect.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from modelplex.core.request import OpaqueState

MARK = "mpx1."
"""The first bytes of every envelope, with a version. No provider's state begins with them."""


class _Content(msgspec.Struct, frozen=True, array_like=True, gc=False):
    format: str
    data: str
    provider: str | None
    account: str | None
    model: str | None
    id: str | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Content)


def wrap(state: OpaqueState) -> str:
    """The opaque state as one string of URL-safe characters."""
    content = _Content(state.format, state.data, state.provider, state.account, state.model, state.id)
    return MARK + base64.urlsafe_b64encode(_encoder.encode(content)).rstrip(b"=").decode("ascii")


def unwrap(text: str) -> OpaqueState | None:
    """The opaque state in an envelope, or None for a damaged envelope or other text."""
    if not text.startswith(MARK):
        return None
    packed = text[len(MARK) :]
    try:
        content = _decoder.decode(base64.b64decode(packed + "=" * (-len(packed) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return OpaqueState(
        format=content.format,
        data=content.data,
        provider=content.provider,
        account=content.account,
        model=content.model,
        id=content.id,
    )
