from __future__ import annotations

import datetime as dt
import random
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from modelplex.packages.certificate import Certificate, make_certificate

NOW = dt.datetime.now(dt.UTC)
STRICT = 0x20
"""ssl.VERIFY_X509_STRICT, the default of Python 3.13."""


def _made(seed: int = 1) -> Certificate:
    return make_certificate(
        ["pypi.example", "127.0.0.1"], now=NOW, number_below=random.Random(seed).randrange
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_certificate_is_of_the_authority(seed: int) -> None:
    made = _made(seed)
    authority = x509.load_pem_x509_certificate(made.authority.encode())
    leaf = x509.load_pem_x509_certificate(made.chain.encode())
    leaf.verify_directly_issued_by(authority)
    authority.verify_directly_issued_by(authority)
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["pypi.example"]
    assert leaf.not_valid_before_utc < NOW < leaf.not_valid_after_utc
    constraints = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.SERVER_AUTH in constraints


@pytest.mark.parametrize(
    ("name", "accepted"), [("pypi.example", True), ("127.0.0.1", True), ("other.example", False)]
)
def test_a_strict_client_accepts_it_for_its_names(tmp_path: Path, name: str, accepted: bool) -> None:
    made = _made()
    (tmp_path / "chain").write_text(made.chain)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "chain")
    client = ssl.create_default_context(cadata=made.authority)
    client.verify_flags |= STRICT
    near, far = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(far, server_side=True).close()
        except (ssl.SSLError, OSError):
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        if accepted:
            client.wrap_socket(near, server_hostname=name).close()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                client.wrap_socket(near, server_hostname=name)
    finally:
        near.close()
        thread.join(10)
