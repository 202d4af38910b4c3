"""The records of a run as a chain of hashes, whose last link is signed. Pure.

A link is the hash of the one before, of its number and of a record's digest. The digest covers the
row, the bodies as they are stored, and what went to providers; parts and nodes have their hash as
their name. So an edited, removed or reordered record is found by its place, and the signed seal
says how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from modelplex.records.store import parts

_encode = msgspec.msgpack.Encoder().encode
_SEAL: Final = b"modelplex record of a run"


class StoredRecord(msgspec.Struct, frozen=True):
    """A record as the database has it: the row of `calls`, its host last, and the blobs of its
    bodies; `sent` in the order of the attempts.
    """

    row: Sequence[Any]
    request: bytes | None = None
    response: bytes | None = None
    sent: Sequence[bytes] = ()
    tokens: bytes | None = None

    @property
    def digest(self) -> bytes:
        """Over the contents of blobs, not over their compression."""
        bodies = [None if blob is None else parts.unpack(blob) for blob in (self.request, self.response)]
        if self.tokens is not None:  # a record without them has the digest of earlier versions
            bodies.append(parts.unpack(self.tokens))
        row = self.row if self.row[-1] else self.row[:-1]  # one without a host too
        return sha256(
            _encode([[_plain(each) for each in row], bodies, [parts.unpack(each) for each in self.sent]])
        ).digest()


def _plain(value: Any) -> str | bytes | float | None:
    """As both databases give it back: a column of REAL makes a float of a whole number."""
    if isinstance(value, str) or value is None:
        return value
    return float(value) if isinstance(value, int | float) else bytes(value)


class Seal(msgspec.Struct, frozen=True):
    """The end of a chain. `closed`: the run has ended, and no record follows."""

    run: str
    number: int
    head: bytes
    closed: bool

    @property
    def message(self) -> bytes:
        """What is signed."""
        return _encode([_SEAL, self.run, self.number, self.head, self.closed])


def first_link(run: str) -> bytes:
    return sha256(_SEAL + b"\0" + run.encode()).digest()


def next_link(before: bytes, number: int, digest: bytes) -> bytes:
    """`number` counts from 1."""
    return sha256(before + number.to_bytes(8, "big") + digest).digest()
