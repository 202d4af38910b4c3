"""A seal in an envelope: opaque state and its origin as one string, for a dialect that has a place
for one string only.

Above it stand the dialects; below it the Seal. It judges no origin: who may open a seal is the
route's question. What is wrapped comes back byte for byte (docs/reference/translation.md#r15). An
envelope is not a secret and not signed: whoever forges one sends a provider a seal that the
provider itself then rejects.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from modelplex.core.request import OpaqueState

MARK = "mpx1."
"""Opens every envelope: a name that no provider's state begins with, and a version."""


class _Content(msgspec.Struct, frozen=True, array_like=True):
    format: str
    data: str
    provider: str | None
    account: str | None
    model: str | None
    id: str | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Content)


def wrap(seal: OpaqueState) -> str:
    """The seal as one string of url-safe characters."""
    content = _Content(seal.format, seal.data, seal.provider, seal.account, seal.model, seal.id)
    return MARK + base64.urlsafe_b64encode(_encoder.encode(content)).rstrip(b"=").decode("ascii")


def unwrap(text: str) -> OpaqueState | None:
    """The seal in an envelope, or None where the text is none, or a damaged one."""
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
