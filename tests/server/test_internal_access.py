"""Who is known by what, and which rights that is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import AdminConfig, Secret
from modelplex.config.settings import AdminRight, KeyFromCommand, KeyInFile, ServerConfig
from modelplex.core.caller import Caller, Peer
from modelplex.core.errors import PolicyDenied, Unauthorized
from modelplex.credentials import key_file
from modelplex.dashboard.access import COOKIE, cookie_of
from modelplex.server.internal_access import Admin, InternalAccess
from modelplex.server.internal_routes import ROUTES, InternalRoute, find_route

READ, STOP, PAGE = "a-token-that-reads", "a-token-that-stops", "the-token-of-the-page"
METRICS = find_route("GET", "metrics").route
STATUS = find_route("GET", "status").route
PUT = find_route("PUT", "agents/a").route
VIEW = find_route("GET", "page/api/calls").route
STOPS = find_route("POST", "page/api/stop").route
LOCAL = Caller(listener="tcp:127.0.0.1:1", kind="tcp", client="127.0.0.1")
OUTSIDE = Caller(listener="tcp:127.0.0.1:1", kind="tcp", client="192.0.2.1")


def at_socket(uid: int | None = 1000) -> Caller:
    peer = None if uid is None else Peer(7, uid, uid)
    return Caller(listener="unix:/a", kind="admin", peer=peer)


def admin(name: str, token: Any, *may: AdminRight, uid: tuple[int, ...] = ()) -> AdminConfig:
    return AdminConfig(name=name, token=Secret(token) if isinstance(token, str) else token, may=may, uid=uid)


class Events:
    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append({"event": event, **fields})


def access(*admins: AdminConfig, own: str = PAGE, **more: Any) -> InternalAccess:
    events: Any = more.pop("events", Events())
    found = InternalAccess(ServerConfig(admins=admins, **more), events=events)
    found.own_token = own
    return found


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def cookie(token: str) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={cookie_of(token)}"}


async def may(
    known: InternalAccess, route: InternalRoute, caller: Caller, headers: dict[str, str] | None = None
) -> int | str | None:
    """200, or the code of the refusal."""
    found = await known.identify(route, caller, headers or {})
    try:
        known.check(route, caller, found)
    except (Unauthorized, PolicyDenied) as refused:
        return refused.code or refused.type
    return 200


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1"])
async def test_without_any_token_this_machine_reads_and_changes_nothing(client: str) -> None:
    caller = Caller(listener="tcp:x", kind="tcp", client=client)
    for headers in ({}, bearer("anything")):
        assert await may(access(), STATUS, caller, headers) == 200
        assert await may(access(), METRICS, caller, headers) == 200
        assert await may(access(), PUT, caller, headers) == "unauthorized"
        assert await may(access(), VIEW, caller, headers) == "unauthorized"


@pytest.mark.parametrize("client", ["192.0.2.1", "::2", "", "localhost"])
async def test_without_any_token_no_other_client_reads(client: str) -> None:
    caller = Caller(listener="tcp:x", kind="tcp", client=client)
    assert await may(access(), STATUS, caller, bearer("anything")) == "internal_only"


GIVEN: list[dict[str, str]] = [
    {}, *({"authorization": value} for value in ("", "Bearer ", "Bearer a-toke", f"Bearer {READ}2", f"Basic {READ}", READ))
]  # fmt: skip


@pytest.mark.parametrize("caller", [LOCAL, OUTSIDE])
@pytest.mark.parametrize("headers", GIVEN)
async def test_with_a_token_every_client_needs_one(caller: Caller, headers: dict[str, str]) -> None:
    for known in (access(internal_token=Secret(READ)), access(admin("r", READ, "read"))):
        assert await may(known, STATUS, caller, bearer(READ)) == 200
        assert await may(known, STATUS, caller, headers) == "unauthorized"


async def test_each_right_is_for_its_own_routes_alone() -> None:
    for route in ROUTES:
        for right in ("metrics", "read", "stop", "change"):
            known = access(admin("a", READ, right))
            allowed = right == route.right or (right == "read" and route.right == "metrics")
            allowed = allowed or route.right == "anybody"
            for caller in (LOCAL, OUTSIDE, at_socket()):
                expected = 200 if allowed else "admin_may_not"
                assert await may(known, route, caller, bearer(READ)) == expected, (route, right)
                if route.part == "page":
                    assert await may(known, route, caller, cookie(READ)) == expected


async def test_the_refusal_says_which_right_is_missing() -> None:
    known = access(admin("prometheus", READ, "metrics", "read"))
    found = await known.identify(STOPS, LOCAL, bearer(READ))
    with pytest.raises(PolicyDenied) as refused:
        known.check(STOPS, LOCAL, found)
    assert refused.value.message == (
        "Policy: POST /_internal/page/api/stop needs the right \"stop\", and the admin 'prometheus' has "
        '"metrics", "read". The setting is [[server.admins]] may.'
    )


async def test_a_cookie_has_the_rights_of_its_token_and_serves_the_page_alone() -> None:
    known = access(admin("r", READ, "read"), admin("s", STOP, "stop"))
    assert await may(known, VIEW, LOCAL, cookie(READ)) == 200
    assert await may(known, STOPS, LOCAL, cookie(READ)) == "admin_may_not"
    assert await may(known, STATUS, LOCAL, cookie(READ)) == "unauthorized"
    assert await may(known, PUT, LOCAL, cookie(PAGE)) == "unauthorized"
    assert cookie_of(READ) != cookie_of(PAGE)
    # The value of a cookie is no token, and a token no cookie.
    assert await may(known, VIEW, LOCAL, bearer(cookie_of(READ))) == "unauthorized"
    assert await may(known, VIEW, LOCAL, {"cookie": f"{COOKIE}={READ}"}) == "unauthorized"


async def test_the_token_of_the_page_has_all_rights_but_that_to_add_agents_over_http() -> None:
    known = access(admin("r", READ, "read"))
    for route in ROUTES:
        expected = "admin_may_not" if route.part == "agent" and route.act else 200
        assert await may(known, route, LOCAL, bearer(PAGE)) == expected
        assert await may(known, route, at_socket(), bearer(PAGE)) == 200
    assert await may(access(page_token=False), VIEW, LOCAL, bearer(PAGE)) == "unauthorized"
    assert access(page_token=False).page_token == ""
    configured = access(internal_token=Secret(STOP))
    assert (configured.page_token, await may(configured, VIEW, LOCAL, bearer(PAGE))) == (STOP, "unauthorized")


async def test_the_admin_socket_is_for_its_user_unless_the_config_names_users() -> None:
    for uid in (0, 1000, None):
        for route in (STATUS, METRICS, PUT):
            assert await may(access(admin("r", READ, "read")), route, at_socket(uid)) == 200
    # A page may be passed on to others, and needs its token.
    assert await may(access(), STOPS, at_socket()) == "unauthorized"
    known = access(admin("ops", None, "read", "change", uid=(1000,)), admin("p", READ, "metrics", uid=(7,)))
    assert await may(known, PUT, at_socket(1000)) == 200
    assert await may(known, METRICS, at_socket(7)) == 200
    assert await may(known, STATUS, at_socket(7)) == "admin_may_not"
    for uid in (0, 5, None):
        for headers in ({}, bearer(READ), bearer(PAGE), cookie(PAGE)):
            for route in (STATUS, METRICS, PUT, VIEW, STOPS):
                assert await may(known, route, at_socket(uid), headers) == "uid_not_allowed"


async def test_a_token_that_is_sent_decides_at_the_admin_socket_too() -> None:
    known = access(admin("r", READ, "read"))
    assert await may(known, PUT, at_socket(), bearer(READ)) == "admin_may_not"
    assert await may(known, PUT, at_socket(), bearer("unknown")) == 200


async def test_an_agents_token_is_no_admins(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(READ)
    known = access(admin("r", KeyInFile(str(path)), "read"))
    agent = Caller(listener="tcp:x", kind="tcp", client="127.0.0.1", agent="coder")
    assert await may(known, STATUS, agent, bearer(READ)) == "unauthorized"
    assert await may(known, STATUS, LOCAL, bearer(READ)) == 200


async def test_a_token_in_a_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "HOLDS_S", 0.0)
    path, events = tmp_path / "token", Events()
    known = access(admin("r", KeyInFile(str(path)), "read"), events=events)
    assert await known.find(READ) is None
    assert "No such file" in str(events.lines[0]["reason"])
    path.write_text(READ + "\n")
    known = access(admin("r", KeyInFile(str(path)), "read"), events=events)
    assert await known.find(READ) == Admin("token", frozenset({"read"}), "r")
    assert await known.find(cookie_of(READ), as_cookie=True) is not None
    path.write_text(STOP)
    assert await known.find(READ) is None
    assert await known.find(STOP) is not None
    path.write_text("short")
    assert await known.find("short") is None
    assert "less than 16 characters" in str(events.lines[-1]["reason"])
    assert not any(secret in str(events.lines) for secret in (READ, STOP))


async def test_a_token_of_a_command() -> None:
    words = (sys.executable, "-c", f"print({READ!r})")
    known = access(admin("r", KeyFromCommand(tuple(map(Secret, words))), "stop"))
    assert await known.find(READ) == Admin("token", frozenset({"stop"}), "r")
    assert await known.find(STOP) is None
    failing = (sys.executable, "-c", "raise SystemExit('no such item')")
    events = Events()
    known = access(admin("r", KeyFromCommand(tuple(map(Secret, failing))), "stop"), events=events)
    assert await known.find(READ) is None
    assert [line["event"] for line in events.lines] == [
        "a key command failed",
        "an admin's token cannot be used",
    ]


async def test_another_config_is_used_from_its_load_on() -> None:
    known = access(admin("r", READ, "read"))
    held = cookie(READ)
    assert await may(known, VIEW, LOCAL, held) == 200
    known.configure(ServerConfig(admins=(admin("s", STOP, "stop"),)))
    assert await may(known, VIEW, LOCAL, held) == "unauthorized"
    assert await may(known, STOPS, LOCAL, bearer(STOP)) == 200
    assert READ not in repr(known)
