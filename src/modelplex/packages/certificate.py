"""A certificate authority for one run, and a certificate of it for the names that a mirror serves.
Pure: randomness and time are arguments.

Tools fetch the addresses in lock files over https, so that the mirror needs a certificate that they
accept. Only programs in the sandbox are told to trust the authority, there is no network there, and
its key is dropped once the one certificate is signed. The arithmetic below is therefore not
protected against timing attacks.

Source: RFC 5280 (certificates), SEC 1 (ECDSA), FIPS 186-4 (P-256).
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

VALID: Final = dt.timedelta(days=397)
"""A longer one is refused by some clients; a shorter one would limit a run."""
SKEW: Final = dt.timedelta(days=1)

P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_ECDSA_SHA256: Final = bytes.fromhex("06082a8648ce3d040302")
_EC_KEY: Final = bytes.fromhex("06072a8648ce3d0201")
_P256: Final = bytes.fromhex("06082a8648ce3d030107")
_COMMON_NAME: Final = bytes.fromhex("0603550403")
_TRUE: Final = b"\x01\x01\xff"

Point: TypeAlias = tuple[int, int]


class Certificate(NamedTuple):
    """PEM: of the authority, and the certificate with its private key."""

    authority: str
    chain: str


def make_certificate(
    names: Sequence[str], *, now: dt.datetime, number_below: Callable[[int], int]
) -> Certificate:
    """`names` are names of hosts and IPv4 addresses; `number_below` gives a random number."""
    authority, key = (1 + number_below(N - 1) for _ in range(2))
    issuer = _identifier(authority)
    root = _signed(
        "Modelplex, one sandbox",
        "Modelplex, one sandbox",
        key=authority,
        signer=authority,
        extensions=[
            _extension("0603551d13", _tlv(0x30, _TRUE), critical=True),
            _extension("0603551d0f", bytes.fromhex("03020204"), critical=True),
            _extension("0603551d0e", _tlv(0x04, issuer)),
        ],
        now=now,
        number_below=number_below,
    )
    leaf = _signed(
        "Modelplex, one sandbox",
        "Modelplex package mirror",
        key=key,
        signer=authority,
        extensions=[
            _extension("0603551d11", _tlv(0x30, *map(_general_name, names))),
            _extension("0603551d0f", bytes.fromhex("03020780"), critical=True),
            _extension("0603551d25", _tlv(0x30, bytes.fromhex("06082b06010505070301"))),
            _extension("0603551d23", _tlv(0x30, _tlv(0x80, issuer))),
            _extension("0603551d0e", _tlv(0x04, _identifier(key))),
        ],
        now=now,
        number_below=number_below,
    )
    private = _tlv(
        0x30,
        _integer(1),
        _tlv(0x04, key.to_bytes(32, "big")),
        _tlv(0xA0, _P256),
        _tlv(0xA1, _bits(_public(key))),
    )
    return Certificate(_pem("CERTIFICATE", root), _pem("CERTIFICATE", leaf) + _pem("EC PRIVATE KEY", private))


def _signed(
    issuer: str,
    subject: str,
    *,
    key: int,
    signer: int,
    extensions: Sequence[bytes],
    now: dt.datetime,
    number_below: Callable[[int], int],
) -> bytes:
    algorithm = _tlv(0x30, _ECDSA_SHA256)
    body = _tlv(
        0x30,
        _tlv(0xA0, _integer(2)),
        _integer(1 + number_below(2**64)),
        algorithm,
        _name(issuer),
        _tlv(0x30, _time(now - SKEW), _time(now - SKEW + VALID)),
        _name(subject),
        _tlv(0x30, _tlv(0x30, _EC_KEY, _P256), _bits(_public(key))),
        _tlv(0xA3, _tlv(0x30, *extensions)),
    )
    return _tlv(0x30, body, algorithm, _bits(_sign(body, signer, number_below)))


# --- ASN.1 in DER ---


def _tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _integer(number: int) -> bytes:
    return _tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _tlv(0x03, b"\0" + content)


def _name(common: str) -> bytes:
    return _tlv(0x30, _tlv(0x31, _tlv(0x30, _COMMON_NAME, _tlv(0x0C, common.encode()))))


def _time(at: dt.datetime) -> bytes:
    if at.year >= 2050:
        return _tlv(0x18, at.strftime("%Y%m%d%H%M%SZ").encode())
    return _tlv(0x17, at.strftime("%y%m%d%H%M%SZ").encode())


def _extension(identifier: str, value: bytes, *, critical: bool = False) -> bytes:
    return _tlv(0x30, bytes.fromhex(identifier), _TRUE if critical else b"", _tlv(0x04, value))


def _general_name(name: str) -> bytes:
    parts = name.split(".")
    if len(parts) == 4 and all(part.isdigit() for part in parts):
        return _tlv(0x87, bytes(map(int, parts)))
    return _tlv(0x82, name.encode("ascii"))


def _pem(label: str, content: bytes) -> str:
    text = base64.b64encode(content).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


# --- P-256 ---


def _identifier(key: int) -> bytes:
    return hashlib.sha1(_public(key), usedforsecurity=False).digest()


def _public(key: int) -> bytes:
    x, y = _times(key, _G)
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def _sign(message: bytes, key: int, number_below: Callable[[int], int]) -> bytes:
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    r = s = 0
    while r == 0 or s == 0:
        nonce = 1 + number_below(N - 1)
        r = _times(nonce, _G)[0] % N
        s = pow(nonce, -1, N) * (digest + r * key) % N
    return _tlv(0x30, _integer(r), _integer(s))


def _times(number: int, point: Point) -> Point:
    result: Point | None = None
    addend: Point | None = point
    while number:
        if number & 1:
            result = _add(result, addend)
        addend = _add(addend, addend)
        number >>= 1
    assert result is not None  # a number between 0 and the order of the curve
    return result


def _add(one: Point | None, two: Point | None) -> Point | None:
    """The sum of two points; None is the point at infinity."""
    if one is None or two is None:
        return one or two
    if one[0] == two[0]:
        if (one[1] + two[1]) % P == 0:
            return None
        slope = (3 * one[0] * one[0] - 3) * pow(2 * one[1], -1, P) % P
    else:
        slope = (two[1] - one[1]) * pow(two[0] - one[0], -1, P) % P
    x = (slope * slope - one[0] - two[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P
