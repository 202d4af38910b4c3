"""Ed25519 signatures: RFC 8032, section 5.1, after the Python code of its section 6. Pure:
randomness is an argument.

A run is signed some times a second at most, by a process whose user could read the key anyway. The
arithmetic is therefore not protected against timing attacks.
"""

from __future__ import annotations

from hashlib import sha512
from typing import Final

KEY_BYTES: Final = 32
"""Of a private key, and of a public one."""
SIGNATURE_BYTES: Final = 64
P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, P - 2, P) % P
_ROOT: Final = pow(2, (P - 1) // 4, P)
_Point = tuple[int, int, int, int]
"""Extended homogeneous coordinates: X, Y, Z and T with x = X/Z, y = Y/Z, x * y = T/Z."""
_NEUTRAL: Final[_Point] = (0, 1, 1, 0)


def public_key(private: bytes) -> bytes:
    """`private` are 32 random bytes."""
    return _compress(_multiply(_expand(private)[0], _BASE))


def sign(private: bytes, message: bytes) -> bytes:
    scalar, prefix = _expand(private)
    public = _compress(_multiply(scalar, _BASE))
    nonce = _number(sha512(prefix + message).digest())
    commitment = _compress(_multiply(nonce, _BASE))
    challenge = _number(sha512(commitment + public + message).digest())
    return commitment + ((nonce + challenge * scalar) % L).to_bytes(32, "little")


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature of the message is by the key of this public one."""
    if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    point, commitment = _decompress(public), _decompress(signature[:32])
    response = int.from_bytes(signature[32:], "little")
    if point is None or commitment is None or response >= L:
        return False
    challenge = _number(sha512(signature[:32] + public + message).digest())
    return _are_equal(_multiply(response, _BASE), _add(commitment, _multiply(challenge, point)))


def _expand(private: bytes) -> tuple[int, bytes]:
    hashed = sha512(private).digest()
    scalar = int.from_bytes(hashed[:32], "little")
    return scalar & ((1 << 254) - 8) | (1 << 254), hashed[32:]


def _number(hashed: bytes) -> int:
    return int.from_bytes(hashed, "little") % L


def _add(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _multiply(number: int, point: _Point) -> _Point:
    total = _NEUTRAL
    while number > 0:
        if number & 1:
            total = _add(total, point)
        point = _add(point, point)
        number >>= 1
    return total


def _are_equal(one: _Point, other: _Point) -> bool:
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 == (one[1] * other[2] - other[1] * one[2]) % P


def _recover_x(y: int, sign: int) -> int | None:
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * _ROOT % P
    if (x * x - square) % P:
        return None
    return P - x if (x & 1) != sign else x


def _compress(point: _Point) -> bytes:
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | ((x & 1) << 255)).to_bytes(32, "little")


def _decompress(content: bytes) -> _Point | None:
    y = int.from_bytes(content, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x = _recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def _base() -> _Point:
    y = 4 * pow(5, P - 2, P) % P
    x = _recover_x(y, 0)
    assert x is not None
    return x, y, 1, x * y % P


_BASE: Final = _base()
