"""The token, the cookie, and requests that another page caused."""

from __future__ import annotations

import pytest

from modelplex.core.errors import PolicyDenied
from modelplex.dashboard.access import (
    COOKIE,
    bearer_of,
    check_change,
    check_own_page,
    cookie_header,
    cookie_of,
    cookies_of,
    is_own_origin,
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


@pytest.mark.parametrize(
    ("headers", "token", "cookies"),
    [
        ({}, "", []),
        ({"authorization": f"Bearer {TOKEN}"}, TOKEN, []),
        ({"authorization": f"bearer  {TOKEN} "}, TOKEN, []),
        ({"authorization": TOKEN}, "", []),
        ({"authorization": f"Basic {TOKEN}"}, "", []),
        ({"cookie": f"a=b; {COOKIE}=one; {COOKIE}=two"}, "", ["one", "two"]),
        ({"cookie": f"other={TOKEN}; {COOKIE}="}, "", []),
        ({"cookie": "; ".join(f"{COOKIE}={n}" for n in range(9))}, "", ["0", "1", "2", "3"]),
    ],
)
def test_what_a_request_brings(headers: dict[str, str], token: str, cookies: list[str]) -> None:
    assert bearer_of(headers) == token
    assert cookies_of(headers) == cookies


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
    for headers, by_cookie in ((WITH_COOKIE | more, True), ({"host": HOST} | more, False)):
        with pytest.raises(PolicyDenied):
            check_change(headers, by_cookie=by_cookie)
        with pytest.raises(PolicyDenied):
            check_own_page(headers)


def test_a_link_from_elsewhere_opens_the_page() -> None:
    check_own_page({"host": HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})


def test_a_change_needs_an_origin_or_the_token_itself() -> None:
    check_change(WITH_COOKIE, by_cookie=True)
    check_change({"host": HOST}, by_cookie=False)
    with pytest.raises(PolicyDenied) as refused:
        check_change({"cookie": WITH_COOKIE["cookie"], "host": HOST}, by_cookie=True)
    assert refused.value.code == "origin_missing"


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
