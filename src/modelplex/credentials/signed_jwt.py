"""JSON Web Tokens signed with the private key of a client or a service account.

The package cryptography signs; it is loaded when a config needs it. Source: RFC 7515 (JWS), RFC
7518 3.3 and 3.4 (RS256, ES256), RFC 8037 3.1 (EdDSA).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

import msgspec

from modelplex.credentials.source import CredentialError


class SigningKey(msgspec.Struct, frozen=True):
    """`algorithm` is the `alg` of a JWT's header; `sign` makes its signature."""

    algorithm: str
    sign: Callable[[bytes], bytes]

    def __repr__(self) -> str:
        return f"<SigningKey {self.algorithm}>"


def load_key(pem: str, place: str) -> SigningKey:
    """Raises CredentialError, in which `place` names what holds the key."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    except ImportError:
        raise CredentialError(f"{place} needs the package cryptography: install modelplex[google]") from None
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CredentialError(f"{place} is no private key") from None
    if isinstance(key, rsa.RSAPrivateKey):
        rsa_key = key
        return SigningKey("RS256", lambda data: rsa_key.sign(data, padding.PKCS1v15(), hashes.SHA256()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return SigningKey("EdDSA", key.sign)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        ec_key = key

        def sign(data: bytes) -> bytes:
            r, s = decode_dss_signature(ec_key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")

        return SigningKey("ES256", sign)
    raise CredentialError(f"{place} is a key of a kind that is not supported: RSA, P-256 and Ed25519 are")


def signed_jwt(key: SigningKey, claims: Mapping[str, str | int], *, key_id: str = "") -> str:
    """A JWT in its compact form."""
    header = {"alg": key.algorithm, "typ": "JWT"} | ({"kid": key_id} if key_id else {})
    signed = b".".join(_base64url(msgspec.json.encode(part)) for part in (header, claims))
    return (signed + b"." + _base64url(key.sign(signed))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
