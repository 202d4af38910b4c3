"""The token, the cookie, and requests that another page caused."""

from __future__ import annotations

import pytest

from modelplex.core.errors import PolicyDenied, Unauthorized
from modelplex.dashboard.access import (
    COOKIE,
    check_change,
    check_own_page,
    check_signed_in,
    cookie_header,
    cookie_of,
    is_own_origin,
    is_token,
)

TOKEN = "the-token-of-this-gateway"
HOST = "127.0.0.1:11435"
OWN = {"host": HOST, "origin": f"http://{HOST}"}
WITH_COOKIE = {"cookie": f"a=b; {COOKIE}={cookie_of(TOKEN)}", **OWN}


def test_the_cookie_is_strict_unreadable_for_scripts_and_does_not_hold_the_token() -> None:
    header = cookie_header(TOKEN).decode()
    assert TOKEN not in header
    assert {"HttpOnly", "SameSite=Strict", "Path=/_internal/"} <= {part.strip() for part in header.split(";")}
    assert cookie_of(TOKEN) != cookie_of(TOKEN + "2")


@pytest.mark.parametrize("given", ["", "the-token", TOKEN + "x", "\N{SNOWMAN}"])
def test_no_other_text_is_the_token(given: str) -> None:
    assert is_token(TOKEN, TOKEN)
    assert not is_token(given, TOKEN)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cookie": f"{COOKIE}={TOKEN}"},
        {"cookie": f"{COOKIE}={cookie_of('another')}"},
        {"cookie": f"other={cookie_of(TOKEN)}"},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {cookie_of(TOKEN)}"},
        {"authorization": "Bearer "},
    ],
)
def test_without_cookie_and_token_nothing_is_shown(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized):
        check_signed_in(headers, TOKEN)


def test_the_cookie_or_the_token_signs_in() -> None:
    check_signed_in(WITH_COOKIE, TOKEN)
    check_signed_in({"authorization": f"bearer {TOKEN}"}, TOKEN)


@pytest.mark.parametrize(
    "more",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": f"file://{HOST}"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_request_of_another_page_changes_and_reads_nothing(more: dict[str, str]) -> None:
    for headers in (WITH_COOKIE | more, {"authorization": f"Bearer {TOKEN}", "host": HOST} | more):
        with pytest.raises(PolicyDenied):
            check_change(headers, TOKEN)
        with pytest.raises(PolicyDenied):
            check_own_page(headers)


def test_a_link_from_elsewhere_opens_the_page() -> None:
    check_own_page({"host": HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})


def test_a_change_needs_an_origin_or_the_token_itself() -> None:
    check_change(WITH_COOKIE, TOKEN)
    check_change({"authorization": f"Bearer {TOKEN}", "host": HOST}, TOKEN)
    with pytest.raises(PolicyDenied) as refused:
        check_change({"cookie": WITH_COOKIE["cookie"], "host": HOST}, TOKEN)
    assert refused.value.code == "origin_missing"
    with pytest.raises(Unauthorized):
        check_change(OWN, TOKEN)


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:1", "localhost:1", True),
        ("https://Box.Example", "box.example", True),
        ("http://localhost:1", "localhost:2", False),
        ("http://localhost", None, False),
    ],
)
def test_an_origin_is_own_by_host_and_port(origin: str, host: str | None, own: bool) -> None:
    assert is_own_origin(origin, host) is own
