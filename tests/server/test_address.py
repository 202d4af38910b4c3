"""Addresses as text."""

from __future__ import annotations

import pytest

from modelplex.server.address import Tcp, parse_http


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8080", Tcp("0.0.0.0", 8080)),
        (":8080", Tcp("127.0.0.1", 8080)),
        ("[::1]:80", Tcp("::1", 80)),
        ("localhost:0", Tcp("localhost", 0)),
    ],
)
def test_an_http_address_is_read(text: str, address: Tcp) -> None:
    assert parse_http(text) == address


@pytest.mark.parametrize(
    "text", ["8080", "", "::1:80", "host:", "host:65536", "host:x", "http://host:80", "a b:80"]
)
def test_a_wrong_http_address_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match=r'"0\.0\.0\.0:8080"'):
        parse_http(text)
