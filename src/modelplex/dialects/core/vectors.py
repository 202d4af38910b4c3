"""Encodes embedding vectors: floats, or base64 of little-endian float32. Imports no dialect."""

from __future__ import annotations

import binascii
import sys
from array import array
from base64 import b64decode, b64encode
from typing import Literal

from modelplex.core.errors import UpstreamBroken


def encode_vector(vector: tuple[float, ...] | str, encoding: Literal["float", "base64"]) -> str | list[float]:
    """One vector in this encoding; a str is base64. Raises UpstreamBroken where it is not base64 of
    whole floats.
    """
    if isinstance(vector, str):
        return vector if encoding == "base64" else _unpack(vector)
    return list(vector) if encoding == "float" else _pack(vector)


def _pack(vector: tuple[float, ...]) -> str:
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return b64encode(floats.tobytes()).decode("ascii")


def _unpack(text: str) -> list[float]:
    floats = array("f")
    try:
        floats.frombytes(b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise UpstreamBroken(
            "The provider's answer has a vector that is not base64 of 32-bit floats."
        ) from None
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tolist()
