"""Ed25519 against the vectors of RFC 8032 (section 7.1) and another implementation."""

from __future__ import annotations

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from modelplex.records.ed25519 import L, is_signed, public_key, sign


@pytest.mark.parametrize(
    ("private", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
)
def test_the_vectors_of_the_rfc(private: str, public: str, message: str, signature: str) -> None:
    key, text = bytes.fromhex(private), bytes.fromhex(message)
    assert public_key(key).hex() == public
    assert sign(key, text).hex() == signature
    assert is_signed(bytes.fromhex(public), text, bytes.fromhex(signature))


def test_it_agrees_with_another_implementation() -> None:
    chance = random.Random(1)
    for size in (0, 1, 64, 1000):
        private, message = chance.randbytes(32), chance.randbytes(size)
        other = Ed25519PrivateKey.from_private_bytes(private)
        assert public_key(private) == other.public_key().public_bytes_raw()
        assert sign(private, message) == other.sign(message)
        assert is_signed(public_key(private), message, other.sign(message))


def test_what_is_not_signed_is_refused_as_by_another_implementation() -> None:
    chance = random.Random(2)
    private = chance.randbytes(32)
    public, message = public_key(private), b"record"
    good = sign(private, message)
    wrong = [good[:31] + bytes([good[31] ^ 1]) + good[32:], good[:32] + bytes([good[32] ^ 1]) + good[33:]]
    wrong += [
        good[:32] + (int.from_bytes(good[32:], "little") + L).to_bytes(32, "little"),
        bytes(64),
        b"\xff" * 64,
    ]
    for signature in wrong:
        assert not is_signed(public, message, signature)
        with pytest.raises(InvalidSignature):
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    assert not is_signed(public, b"another", good)
    assert not is_signed(public_key(chance.randbytes(32)), message, good)
    assert not is_signed(public[:-1], message, good)
    assert not is_signed(public, message, good[:-1])
    assert not is_signed(b"\xff" * 32, message, good)
