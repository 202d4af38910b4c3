"""`modelplex mcp login`, `logout` and `status`, with a scripted tool server that is its own
authorization server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelplex.config import parse, provider_types
from modelplex.mcp.oauth import commands
from modelplex.mcp.oauth.login import LoginTerminal
from modelplex.mcp.oauth.store import SignInFiles
from tests.credentials.clouds import Reply, cloud, form
from tests.upstreams import Seen

from .test_login import Person, visit

SECRETS = ("a-new-token", "a-refresh-token", "the-code")


class Said(NamedTuple):
    status: int
    out: str
    err: str


class Desk:
    """The command line of a host; `replies` are what the server answers in place of the usual."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], url: str) -> None:
        self.folder = folder
        self.files = SignInFiles(folder)
        self.url = url
        self.more = ""
        self.agents = ""
        self.replies: dict[str, Callable[[Seen], Reply]] = {}
        self._capsys = capsys

    async def __call__(self, verb: str, server: str = "far", **options: Any) -> Said:
        text = (
            f'[server]\nstate_folder = "{self.folder}"\n[mcp]\nenabled = true\n[[mcp.servers]]\nname = "far"\n'
            f'url = "{self.url}/mcp"\n{self.more}\n[[mcp.servers]]\nname = "local"\ncommand = "true"\n{self.agents}'
        )
        defaults = {"agent": "", "no_browser": True, "device": False, "scope": "", "json": False}
        arguments = argparse.Namespace(**{"server": server, **defaults, **options})
        async with asyncio.timeout(30):
            status = await getattr(commands, verb)(
                arguments, parse(text.encode(), file="c", environ={}, types=provider_types())
            )
        shown = self._capsys.readouterr()
        said = Said(status, shown.out, shown.err)
        for secret in SECRETS:
            assert secret not in said.out + said.err
        return said


@pytest.fixture
async def at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Desk]:
    async def agree(asked: dict[str, str]) -> None:
        await visit(asked["redirect_uri"], code="the-code", state=asked["state"])

    def reply(seen: Seen) -> Reply:
        path = seen.target
        if path in desk.replies:
            return desk.replies[path](seen)
        match path:
            case "/mcp":
                return 401, {}
            case "/.well-known/oauth-protected-resource":
                return 200, {"resource": desk.url, "authorization_servers": [desk.url]}
            case "/.well-known/oauth-authorization-server":
                endpoints = {
                    f"{name}_endpoint": f"{desk.url}/{name}"
                    for name in ("authorization", "token", "registration", "revocation")
                }
                return 200, {"issuer": desk.url, "code_challenge_methods_supported": ["S256"], **endpoints}
            case "/registration":
                return 201, {"client_id": "made"}
            case "/token":
                token = {"access_token": "a-new-token", "token_type": "Bearer", "expires_in": 10**18}
                return 200, {**token, "refresh_token": "a-refresh-token"}
            case "/revocation":
                return 200, {}
            case _:
                return 404, {}

    def terminal(**_: bool) -> LoginTerminal:
        return Person(agree).terminal

    monkeypatch.setattr(commands, "login_terminal", terminal)
    async with cloud(reply) as service:
        desk = Desk(tmp_path, capsys, service.url)
        yield desk


async def test_in_and_out(at: Desk) -> None:
    revoked: list[dict[str, str]] = []

    def revocation(seen: Seen) -> Reply:
        revoked.append(form(seen))
        return 200, {}

    at.replies["/revocation"] = revocation
    assert (await at("status")).out == "far: not signed in: `modelplex mcp login far` if it requires OAuth\n"
    said = await at("login")
    assert (said.status, said.out.partition(" until")[0]) == (0, "Signed in to far: with a token")
    assert said.err == ""
    said = await at("status")
    assert (said.status, said.out.partition(" until")[0]) == (0, "far: signed in, with a token")
    (row,) = json.loads((await at("status", json=True)).out)
    assert (row["server"], row["signed_in"], row["renews"]) == ("far", True, True)
    assert await at("logout") == (0, "Signed out of far, and its tokens are revoked.\n", "")
    assert [each["token"] for each in revoked] == ["a-refresh-token", "a-new-token"]
    assert await at("logout") == (1, "", "modelplex: far: this host is not signed in\n")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


@pytest.mark.parametrize(
    ("harm", "told"), [(half, "is not a sign-in"), (open_to_others, "its mode must be 0600")]
)
async def test_a_file_that_cannot_be_used_is_replaced_or_deleted(
    at: Desk, harm: Callable[[Path], object], told: str
) -> None:
    """Neither `login` nor `logout` got past it."""
    assert (await at("login")).status == 0
    harm(at.files.path("far"))
    said = await at("status")
    assert (said.status, told in said.out) == (1, True)
    assert (await at("login")).status == 0
    assert (await at("status")).status == 0
    harm(at.files.path("far"))
    assert await at("logout") == (
        0,
        "Signed out of far. Its file could not be used to revoke the tokens: they end by themselves.\n",
        "",
    )
    assert at.files.read("far") is None


async def test_a_sign_in_that_cannot_be_revoked_is_forgotten(at: Desk) -> None:
    at.replies["/revocation"] = lambda _: (503, {})
    await at("login")
    said = await at("logout")
    assert said.err == (
        f"modelplex: far: signed out here, but the revocation endpoint {at.url}/revocation answered 503\n"
    )
    assert (said.status, at.files.read("far")) == (1, None)


async def test_what_cannot_be_deleted_is_not_signed_out(at: Desk) -> None:
    at.files.path("far").mkdir(parents=True)
    said = await at("logout")
    assert (said.status, said.out) == (1, "")
    assert "cannot be removed" in said.err
    assert "signed out" not in said.err


async def test_a_server_without_revocation_is_left(at: Desk) -> None:
    await at("login")
    kept = at.files.path("far")
    kept.write_text(kept.read_text().replace("/revocation", ""))
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "revocation_endpoint": ""}))
    assert (await at("logout")).out == (
        "Signed out of far. The server has no way to revoke tokens: they end by themselves.\n"
    )


async def test_an_error_of_a_server_moves_no_cursor_and_has_no_token(at: Desk) -> None:
    def refuse(seen: Seen) -> Reply:
        return 400, {
            "error": "invalid_grant",
            "error_description": f"{form(seen)['code']}\x1b[2J\n{'x' * 5_000}",
        }

    at.replies["/token"] = refuse
    said = await at("login")
    assert said.status == 1
    assert "\x1b" not in said.err
    assert len(said.err) < 700
    assert at.files.read("far") is None


async def test_a_sign_in_that_ended_is_told_with_the_command(at: Desk) -> None:
    await at("login")
    kept = json.loads(at.files.path("far").read_text())
    at.files.path("far").write_text(json.dumps({**kept, "ended": "invalid_grant", "access_token": ""}))
    said = await at("status")
    assert said.status == 1
    assert said.out == "far: not signed in (invalid_grant): `modelplex mcp login far` if it requires OAuth\n"
    at.files.path("far").write_text(json.dumps({**kept, "wanted": "b", "expires_at": None}))
    assert (await at("status")).out == (
        "far: signed in, until the server ends it; it lacks the scope b: `modelplex mcp login far`\n"
    )
    at.files.path("far").write_text(json.dumps({**kept, "refresh_token": "", "expires_at": 0.0}))
    assert (await at("status")).status == 1


async def test_a_sign_in_at_another_address_is_none(at: Desk) -> None:
    await at("login")
    at.url = at.url.replace("127.0.0.1", "localhost")
    assert "not signed in" in (await at("status")).out
    said = await at("logout")
    assert said.out.startswith("Signed out of far.")


@pytest.mark.parametrize("verb", ["login", "logout"])
@pytest.mark.parametrize(
    ("server", "options", "more", "told"),
    [
        ("f\x1b[2Jr", {}, "", "[2Jr': there are far, local"),
        ("local", {}, "", "local is a command, which needs no sign-in"),
        ("far", {}, 'headers = { Authorization = "Bearer x" }', "a sign-in would not be used"),
        ("far", {"agent": "ann"}, "", "per_agent = true }` changes that".replace("`", "")),
        (
            "far",
            {"agent": "dan"},
            'scope = "agent"\nauth = { type = "oauth", per_agent = true }',
            "the config names no agent 'dan'",
        ),
    ],
)
async def test_what_cannot_be_signed_in_to_is_told(
    at: Desk, verb: str, server: str, options: dict[str, Any], more: str, told: str
) -> None:
    at.more = more
    at.agents = '[[agents]]\nname = "ann"\ntoken = "ann-token"\n'
    said = await at(verb, server, **options)
    assert (said.status, said.out) == (2, "")
    assert told in said.err
    assert "\x1b" not in said.err


async def test_a_machine_needs_no_sign_in_and_an_unknown_server_has_no_status(at: Desk) -> None:
    assert (await at("status", "none")).status == 2
    secret = 'client_id = "c", client_secret = "the-secret-of-it"'
    at.more = f'auth = {{ type = "oauth", grant = "client_credentials", {secret} }}'
    said = await at("login")
    assert (said.status, "needs no sign-in" in said.err) == (2, True)
    assert (await at("status", "")).out == "far: the gateway's own credentials\n"
