"""Request headers for the record."""

from __future__ import annotations

import pytest

from modelplex.records.request_headers import MAX_HEADERS, MAX_VALUE, NOT_KEPT, shown_headers


def test_known_headers_have_their_values() -> None:
    headers = [(b"User-Agent", b"agent/1"), (b"x-stainless-lang", b"python"), (b"anthropic-beta", b"a,b")]
    assert shown_headers(headers) == (
        ("user-agent", "agent/1"),
        ("x-stainless-lang", "python"),
        ("anthropic-beta", "a,b"),
    )


@pytest.mark.parametrize(
    "name",
    [
        *(b"authorization", b"Authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key"),
        *(b"x-goog-api-key", b"x-auth-token", b"cf-access-client-secret", b"forwarded", b"x-unheard-of"),
    ],
)
def test_of_any_other_the_name_is_kept_alone(name: bytes) -> None:
    assert shown_headers([(name, b"a secret")]) == ((name.decode().lower(), NOT_KEPT),)


def test_headers_are_bounded() -> None:
    shown = shown_headers([(b"accept", b"x" * 10_000)] * 200)
    assert len(shown) == MAX_HEADERS
    assert {len(value) for _, value in shown} == {MAX_VALUE}
