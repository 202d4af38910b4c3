"""A sealed agent calls a tool that requires OAuth, after the owner of the host has signed in: with
oidc-provider as the authorization server, and a browser that the test plays.
"""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelplex.credentials.signed_jwt import _base64url
from tests.gateways import Running, gateway
from tests.mcp.authorization import Authorization, authorization_server, login_by_device, modelplex
from tests.mcp.browser import NOBODY
from tests.processes import served

SIGN_IN = "It requires a sign-in: the owner of this host has to run `modelplex mcp login far`."
WAIT_S = 30.0


def config(at: Authorization, *more: str, before: str = "") -> str:
    rows = "\n".join(more)
    return f'{before}[mcp]\nenabled = true\npinning = "off"\n\n[[mcp.servers]]\nname = "far"\nurl = "{at.resource}"\n{rows}\n'


async def call(running: Running, tool: str = "whoami", **more: Any) -> tuple[int, str]:
    """As a sealed agent on the socket: the status, and the text or the message of the error."""
    more = more or {"unix": True}
    answer = await running.ask("POST", f"/mcp/v1/tools/far__{tool}/call", {"arguments": {}}, **more)
    if "content" in answer.json:
        return answer.status, answer.json["content"][0]["text"]
    return answer.status, answer.error["message"]


async def state(running: Running) -> dict[str, Any]:
    """The server in `/_internal/mcp`."""
    found: dict[str, Any] = (await running.ask("GET", "/_internal/mcp")).json["servers"][0]
    return found


def kept(folder: Path, name: str = "far.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "state" / "mcp-sign-ins" / name).read_text())
    return found


async def signed_in(folder: Path, *more: str, user: str = "owner") -> None:
    said = await modelplex(folder, "mcp", "login", "far", *more, user=user)
    assert said.status == 0, said


async def test_an_agent_uses_a_tool_after_the_owner_has_signed_in(tmp_path: Path) -> None:
    async with authorization_server() as at, gateway(config(at), folder=tmp_path) as running:
        status, message = await call(running)
        assert (status, message) == (503, f"The tool server far could not be started. {SIGN_IN}")
        before = await state(running)
        assert before["last_error"] == SIGN_IN
        assert before["sign_ins"][0]["signed_in"] is False

        said = await modelplex(tmp_path, "mcp", "login", "far")
        assert (said.status, said.out.partition(" until")[0]) == (0, "Signed in to far: with a token")
        assert await call(running) == (200, "owner: mcp:read")

        after = await state(running)
        found = kept(tmp_path)
        assert after["last_error"] is None
        assert after["sign_ins"][0] == {
            "agent": "",
            "signed_in": True,
            "until": found["expires_at"],
            "renews": True,
            "scope": "mcp:read offline_access",
            "problem": "",
        }
        # A tool that repeats the token does not tell it to an agent, and no log or status has it.
        assert await call(running, "leak") == (200, "authorization: Bearer ********")
        folder = tmp_path / "state" / "mcp-sign-ins"
        modes = {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
        assert (stat.S_IMODE(folder.stat().st_mode), modes) == (0o700, {0o600})
        shown = json.dumps(after) + said.out + said.err + (tmp_path / "log.json").read_text()
        for name in ("access_token", "refresh_token"):
            assert found[name] not in shown


async def test_a_token_is_renewed_once_for_all_and_nobody_notices(tmp_path: Path) -> None:
    """oidc-provider ends a sign-in whose refresh token is used twice."""
    async with authorization_server(life=2) as at, gateway(config(at), folder=tmp_path) as running:
        await signed_in(tmp_path)
        tokens = {kept(tmp_path)["access_token"]}
        async with asyncio.timeout(WAIT_S):
            while len(tokens) < 3:
                answers = await asyncio.gather(*(call(running) for _ in range(8)))
                assert set(answers) == {(200, "owner: mcp:read")}
                tokens.add(kept(tmp_path)["access_token"])


async def test_two_gateways_renew_one_sign_in(tmp_path: Path) -> None:
    async with authorization_server(life=2) as at:
        state_row = f'[server]\nstate_folder = "{tmp_path / "state"}"\n'
        (tmp_path / "second").mkdir()
        async with (
            gateway(config(at, before=state_row), folder=tmp_path) as one,
            gateway(config(at, before=state_row), folder=tmp_path / "second") as other,
        ):
            await signed_in(tmp_path)
            tokens = {kept(tmp_path)["access_token"]}
            async with asyncio.timeout(WAIT_S):
                while len(tokens) < 3:
                    answers = await asyncio.gather(*(call(each) for each in (one, other) for _ in range(4)))
                    assert set(answers) == {(200, "owner: mcp:read")}
                    tokens.add(kept(tmp_path)["access_token"])


async def test_a_call_that_needs_more_permissions_says_so_and_the_next_sign_in_asks_for_them(
    tmp_path: Path,
) -> None:
    async with authorization_server() as at, gateway(config(at), folder=tmp_path) as running:
        await signed_in(tmp_path)
        status, message = await call(running, "write")
        assert status == 503
        assert message.endswith(
            "It requires more permissions (mcp:write): the owner of this host has to run `modelplex mcp login far`."
        )
        assert await call(running) == (200, "owner: mcp:read")
        said = await modelplex(tmp_path, "mcp", "status")
        assert (said.status, "it lacks the scope mcp:write" in said.out) == (1, True)
        client = kept(tmp_path)["client"]["id"]
        await signed_in(tmp_path)
        assert await call(running, "write") == (200, "owner: mcp:read mcp:write")
        assert kept(tmp_path)["client"]["id"] == client
        assert (await modelplex(tmp_path, "mcp", "status")).status == 0


async def test_logout_ends_the_tokens_here_and_at_the_server(tmp_path: Path) -> None:
    async with authorization_server() as at, gateway(config(at), folder=tmp_path) as running:
        await signed_in(tmp_path)
        assert (await call(running))[0] == 200
        again = kept(tmp_path)
        said = await modelplex(tmp_path, "mcp", "logout", "far")
        assert (said.status, said.out) == (0, "Signed out of far, and its tokens are revoked.\n")
        assert (await call(running))[1].endswith(SIGN_IN)
        # Not even one who has kept a copy of the file can go on.
        (tmp_path / "state" / "mcp-sign-ins" / "far.json").write_text(json.dumps(again))
        (tmp_path / "state" / "mcp-sign-ins" / "far.json").chmod(0o600)
        assert (await call(running))[1].endswith(SIGN_IN)
        second = await modelplex(tmp_path, "mcp", "logout", "far")
        assert second.status == 0


async def test_a_sign_in_that_was_revoked_elsewhere_has_ended(tmp_path: Path) -> None:
    async with authorization_server() as at, gateway(config(at), folder=tmp_path) as running:
        await signed_in(tmp_path)
        copy = tmp_path / "state" / "mcp-sign-ins" / "far.json"
        content = kept(tmp_path) | {"obtained_at": 1.0}
        assert (await modelplex(tmp_path, "mcp", "logout", "far")).status == 0
        copy.write_text(json.dumps(content))
        copy.chmod(0o600)
        assert (await call(running))[1].endswith(SIGN_IN)
        assert "invalid_grant" in kept(tmp_path)["ended"]
        said = await modelplex(tmp_path, "mcp", "status")
        assert said.status == 1
        assert "far: not signed in (the token endpoint" in said.out
        log = (tmp_path / "log.json").read_text()
        assert "its sign-in has ended" in log


async def test_a_code_is_entered_in_a_browser_elsewhere(tmp_path: Path) -> None:
    async with authorization_server() as at, gateway(config(at), folder=tmp_path) as running:
        said = await login_by_device(tmp_path)
        assert (said.status, said.out.partition(" until")[0]) == (0, "Signed in to far: with a token")
        assert await call(running) == (200, "owner: mcp:read")


async def test_each_agent_has_a_sign_in_of_its_own(tmp_path: Path) -> None:
    agents = "".join(
        f'[[agents]]\nname = "{name}"\ntoken = "{name}-token"\n' for name in ("ann", "ben", "cid")
    )
    rows = ('scope = "agent"', 'auth = { type = "oauth", per_agent = true }')
    async with (
        authorization_server() as at,
        gateway(config(at, *rows) + agents, folder=tmp_path) as running,
    ):
        await signed_in(tmp_path, user="host")
        await signed_in(tmp_path, "--agent", "ann", user="anna")
        await signed_in(tmp_path, "--agent", "ben", user="benjamin")

        async def ask(agent: str) -> tuple[int, str]:
            return await call(running, headers=[(b"authorization", f"Bearer {agent}-token".encode())])

        assert await ask("ann") == (200, "anna: mcp:read")
        assert await ask("ben") == (200, "benjamin: mcp:read")
        status, message = await ask("cid")
        assert status == 503
        assert message.endswith("has to run `modelplex mcp login far --agent cid`.")
        said = await modelplex(tmp_path, "mcp", "status")
        assert [line.split(",")[0] for line in said.out.splitlines()] == [
            "far: signed in",
            "far for ann: signed in",
            "far for ben: signed in",
        ]
        unknown = await modelplex(tmp_path, "mcp", "login", "far", "--agent", "dan")
        assert (unknown.status, unknown.err) == (2, "modelplex: the config names no agent 'dan'\n")


@pytest.mark.parametrize("proof", ["secret", "key"])
async def test_a_machine_needs_no_person(tmp_path: Path, proof: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "kid": "k1",
        "x": _base64url(numbers.x.to_bytes(32, "big")).decode(),
        "y": _base64url(numbers.y.to_bytes(32, "big")).decode(),
    }
    pem = tmp_path / "key.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    client: dict[str, Any] = {
        "client_id": "robot",
        "grant_types": ["client_credentials"],
        "response_types": [],
        "redirect_uris": [],
        "scope": "mcp:read mcp:write",
    }
    if proof == "secret":
        client |= {
            "client_secret": "s3cret-of-the-robot",
            "token_endpoint_auth_method": "client_secret_basic",
        }
        row = 'client_secret = "s3cret-of-the-robot"'
    else:
        client |= {"jwks": {"keys": [jwk]}, "token_endpoint_auth_method": "private_key_jwt"}
        row = f'private_key_file = "{pem}", key_id = "k1"'
    auth = f'auth = {{ type = "oauth", grant = "client_credentials", client_id = "robot", {row} }}'
    async with (
        authorization_server(clients=[client], registration=False) as at,
        gateway(config(at, auth), folder=tmp_path) as running,
    ):
        assert await call(running) == (200, "a machine: mcp:read")
        # A machine asks for what it lacks by itself.
        assert await call(running, "write") == (200, "a machine: mcp:read mcp:write")
        assert (await state(running))["sign_ins"][0]["signed_in"] is True
        said = await modelplex(tmp_path, "mcp", "login", "far")
        assert (said.status, "needs no sign-in" in said.err) == (2, True)
        assert not (tmp_path / "state" / "mcp-sign-ins").exists()


async def test_without_registration_the_owner_is_told_what_to_configure(tmp_path: Path) -> None:
    async with authorization_server(registration=False) as at, gateway(config(at), folder=tmp_path):
        said = await modelplex(tmp_path, "mcp", "login", "far")
        assert said.status == 1
        assert "registers no clients by itself" in said.err
        assert 'auth = { type = "oauth", client_id = "..." }' in said.err


async def test_a_client_that_was_registered_beforehand_has_a_port_of_its_own(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    client = {
        "client_id": "ours",
        "token_endpoint_auth_method": "none",
        "application_type": "native",
        "redirect_uris": [f"http://127.0.0.1:{unused_tcp_port}/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
    }
    async with authorization_server(clients=[client], registration=False) as at:
        auth = f'auth = {{ type = "oauth", client_id = "ours", issuer = "{at.issuer}", redirect_port = {unused_tcp_port} }}'
        async with gateway(config(at, auth), folder=tmp_path) as running:
            await signed_in(tmp_path)
            assert kept(tmp_path)["client"]["id"] == "ours"
            assert await call(running) == (200, "owner: mcp:read")


async def test_one_who_refuses_in_the_browser_is_not_signed_in(tmp_path: Path) -> None:
    async with authorization_server() as at, gateway(config(at), folder=tmp_path):
        said = await modelplex(tmp_path, "mcp", "login", "far", user=NOBODY)
        assert (said.status, said.err.splitlines()[-1]) == (
            1,
            "modelplex: far: the authorization server refused: access_denied",
        )
        assert not (tmp_path / "state" / "mcp-sign-ins" / "far.json").exists()


async def test_a_confined_gateway_renews_tokens(tmp_path: Path) -> None:
    """As a process of its own: it writes its state folder and connects to the server's port."""
    async with authorization_server(life=2) as at:
        auth = f'auth = {{ type = "oauth", issuer = "{at.issuer}" }}'
        row = f'[server]\nstate_folder = "{tmp_path / "state"}"\n'
        async with served(config(at, auth, before=row), folder=tmp_path) as running:
            await signed_in(tmp_path)
            tokens = {kept(tmp_path)["access_token"]}

            async def renewed() -> bool:
                answer = await running.ask("POST", "/mcp/v1/tools/far__whoami/call", b'{"arguments": {}}')
                assert json.loads(answer.body)["content"][0]["text"] == "owner: mcp:read"
                tokens.add(kept(tmp_path)["access_token"])
                return len(tokens) > 2

            async with asyncio.timeout(WAIT_S):
                while not await renewed():
                    pass
