"""The tokens of a running gateway, against scripted authorization servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import Secret
from modelplex.config.mcp_settings import McpOAuth, McpServer
from modelplex.credentials.source import RETRY_S, CredentialError
from modelplex.mcp.oauth.challenge import INSUFFICIENT, Challenge
from modelplex.mcp.oauth.source import HOLDS_S, JWT_BEARER, LONGEST, ServerTokens
from modelplex.mcp.oauth.store import SignInFiles
from tests.credentials.clouds import Clock, Reply, form
from tests.upstreams import Seen

from .web import TOKEN, TOOLS, Page, Web, pages, sign_in, web

MORE = Challenge(403, error=INSUFFICIENT, scope="b")
WANTED = Challenge(401)


class Issuer:
    """Grants tokens with numbers. A refresh token is accepted once, and another one is given."""

    def __init__(self, *, rotates: bool = True) -> None:
        self.rotates = rotates
        self.valid = "first-refresh-token"
        self.grants = 0

    def __call__(self, seen: Seen) -> Reply:
        given = form(seen)["refresh_token"]
        if given != self.valid:
            return 400, {"error": "invalid_grant", "error_description": f"{given} was used before"}
        self.grants += 1
        token = {"access_token": f"access-{self.grants:06}", "token_type": "Bearer", "expires_in": 100}
        if self.rotates:
            self.valid = token["refresh_token"] = f"refresh-{self.grants:06}"
        return 200, token


class Desk:
    """A gateway's tokens, the file beside, and what the host's log has."""

    def __init__(self, folder: Path, client: Web, auth: McpOAuth | None = None) -> None:
        self.clock = Clock(10.0)
        self.client = client
        self.files = SignInFiles(folder)
        self.log: list[str] = []
        self.server = McpServer(name="far", url=Secret(TOOLS), auth=auth)
        self.tokens = self.another()

    def another(self) -> ServerTokens:
        """Of another process."""
        return ServerTokens(self.server, self.files, self.client, warn=self.log.append, clock=self.clock)

    def write(self, **more: Any) -> None:
        self.files.write(sign_in(**more), "far")

    @property
    def kept(self) -> dict[str, Any]:
        kept = self.files.read("far")
        assert kept is not None
        return {name: getattr(kept, name) for name in kept.__struct_fields__}

    @property
    def asked(self) -> list[dict[str, str]]:
        return [
            form(seen) for seen, url in zip(self.client.seen, self.client.asked, strict=True) if url == TOKEN
        ]


@asynccontextmanager
async def desk(folder: Path, token: Page, auth: McpOAuth | None = None) -> AsyncGenerator[Desk]:
    async with web({**pages(), TOKEN: token}) as client:
        yield Desk(folder, client, auth)


async def test_without_a_sign_in_there_is_no_token_until_somebody_signs_in(tmp_path: Path) -> None:
    async with desk(tmp_path, (500, b"")) as at:
        assert await at.tokens.token() == ""
        assert "modelplex mcp login far`" in at.tokens.needed(WANTED)
        at.write()
        at.clock.now += HOLDS_S
        assert await at.tokens.token() == "first-access-token"
        assert at.files.delete("far")
        at.clock.now += HOLDS_S
        assert await at.tokens.token() == ""
        assert (at.asked, at.log) == ([], [])


async def test_concurrent_requests_renew_a_token_once(tmp_path: Path) -> None:
    issuer = Issuer()
    async with desk(tmp_path, issuer) as at:
        at.write()
        at.clock.now = 200.0
        tokens = await asyncio.gather(*(at.tokens.token() for _ in range(50)))
        assert set(tokens) == {"access-000001"}
        assert len(at.asked) == 1


async def test_several_gateways_renew_a_token_once(tmp_path: Path) -> None:
    async with desk(tmp_path, Issuer()) as at:
        at.write()
        at.clock.now = 200.0
        gateways = [at.tokens, *(at.another() for _ in range(5))]
        assert {await each for each in asyncio.as_completed([each.token() for each in gateways])} == {
            "access-000001"
        }
        assert len(at.asked) == 1


async def test_a_rotated_refresh_token_is_kept_and_used_next(tmp_path: Path) -> None:
    async with desk(tmp_path, Issuer()) as at:
        at.write(scope="a")
        for number in range(1, 4):
            at.clock.now += 100.0
            assert await at.tokens.token() == f"access-{number:06}"
            assert at.kept["refresh_token"] == f"refresh-{number:06}"
        assert [each["refresh_token"] for each in at.asked] == [
            "first-refresh-token",
            "refresh-000001",
            "refresh-000002",
        ]
        assert (at.kept["scope"], at.kept["obtained_at"], at.kept["expires_at"]) == ("a", 310.0, 410.0)


async def test_a_refresh_token_that_is_not_rotated_is_used_again(tmp_path: Path) -> None:
    async with desk(tmp_path, Issuer(rotates=False)) as at:
        at.write()
        for _ in range(2):
            at.clock.now += 100.0
            await at.tokens.token()
        assert at.kept["refresh_token"] == "first-refresh-token"


async def test_a_token_is_renewed_before_its_end(tmp_path: Path) -> None:
    async with desk(tmp_path, Issuer()) as at:
        at.write()
        at.clock.now = 79.0
        assert await at.tokens.token() == "first-access-token"
        at.clock.now = 81.0 + HOLDS_S
        assert await at.tokens.token() == "access-000001"


@pytest.mark.parametrize("code", ["invalid_grant", "invalid_client", "unauthorized_client", "invalid_target"])
async def test_a_refused_refresh_token_ends_the_sign_in(tmp_path: Path, code: str) -> None:
    def reply(seen: Seen) -> Reply:
        return 400, {"error": code, "error_description": f"{form(seen)['refresh_token']} {'x' * 5_000}"}

    async with desk(tmp_path, reply) as at:
        at.write()
        at.clock.now = 200.0
        assert await at.tokens.token() == ""
        assert (at.kept["access_token"], at.kept["refresh_token"]) == ("", "")
        assert at.tokens.state.problem == at.kept["ended"] or code in at.kept["ended"]
        assert len(at.kept["ended"]) <= LONGEST
        assert len(at.log) == 1
        assert "Run `modelplex mcp login far`" in at.log[0]
        assert "first-refresh-token" not in at.log[0] + at.kept["ended"]
        for _ in range(3):  # no more requests, and no more lines
            at.clock.now += HOLDS_S
            assert await at.tokens.token() == ""
        assert (len(at.asked), len(at.log)) == (1, 1)


async def test_a_refresh_token_that_was_used_elsewhere_ends_the_sign_in(tmp_path: Path) -> None:
    issuer = Issuer()
    issuer.valid = "another"
    async with desk(tmp_path, issuer) as at:
        at.write()
        at.clock.now = 200.0
        assert await at.tokens.token() == ""
        assert "first-refresh-token" not in at.log[0] + at.kept["ended"]


@pytest.mark.parametrize(
    "fault", [(503, b""), (200, b"first-refresh-token"), (429, {"error": "slow_down"}), (400, b"[" * 50_000)]
)
async def test_a_fault_that_may_pass_keeps_the_sign_in(tmp_path: Path, fault: Reply) -> None:
    faults = [fault]
    issuer = Issuer()
    async with desk(tmp_path, lambda seen: faults[0] if faults else issuer(seen)) as at:
        at.write()
        at.clock.now = 90.0
        assert await at.tokens.token() == "first-access-token"  # which still holds
        at.clock.now = 200.0
        with pytest.raises(CredentialError):
            await at.tokens.token()
        with pytest.raises(CredentialError):  # not asked again at once
            await at.tokens.token()
        assert len(at.asked) == 2
        assert len(at.log) == 1
        assert "first-refresh-token" not in at.log[0]
        assert at.tokens.state.problem in at.log[0]
        assert "mcp status far" in at.tokens.not_renewed
        faults.clear()
        at.clock.now += RETRY_S
        assert await at.tokens.token() == "access-000001"
        assert at.tokens.state.problem == ""


async def test_an_expired_token_without_a_refresh_token_ends(tmp_path: Path) -> None:
    async with desk(tmp_path, (500, b"")) as at:
        at.write(refresh_token="")
        at.clock.now = 99.0
        assert await at.tokens.token() == "first-access-token"
        at.clock.now = 101.0
        assert await at.tokens.token() == ""
        assert at.kept["ended"] == "the token has expired"
        assert at.asked == []


async def test_a_refused_token_is_renewed_unless_it_is_new(tmp_path: Path) -> None:
    async with desk(tmp_path, Issuer()) as at:
        at.write(obtained_at=5.0)
        refused = await at.tokens.token()
        assert await at.tokens.renewed(refused, WANTED) == ""
        assert at.asked == []
        at.clock.now = 50.0
        refused = await at.tokens.token()
        renewed = await asyncio.gather(*(at.tokens.renewed(refused, WANTED) for _ in range(10)))
        assert set(renewed) == {"access-000001"}
        assert len(at.asked) == 1


async def test_a_sign_in_at_another_address_is_not_used(tmp_path: Path) -> None:
    async with desk(tmp_path, (500, b"")) as at:
        at.write(server="https://elsewhere.example/mcp")
        assert await at.tokens.token() == ""
        assert not at.tokens.state.signed_in


async def test_a_half_written_file_is_told_and_read_again(tmp_path: Path) -> None:
    async with desk(tmp_path, (500, b"")) as at:
        at.write()
        path = at.files.path("far")
        whole = path.read_bytes()
        path.write_bytes(whole[:-30])
        for _ in range(2):
            with pytest.raises(CredentialError, match="is not a sign-in that this version reads"):
                await at.tokens.token()
            at.clock.now += RETRY_S
        assert len(at.log) == 1
        assert "first-" not in at.log[0]
        path.write_bytes(whole)
        assert await at.tokens.token() == "first-access-token"


async def test_a_missing_scope_is_kept_for_the_next_sign_in(tmp_path: Path) -> None:
    async with desk(tmp_path, (500, b"")) as at:
        at.write(wanted="a")
        token = await at.tokens.token()
        assert await at.tokens.renewed(token, MORE) == ""
        assert await at.tokens.renewed(token, MORE) == ""
        assert at.kept["wanted"] == "a b"
        assert "requires more permissions (b)" in at.tokens.needed(MORE)
        at.write(access_token="with-more-scope", scope="a b")
        assert await at.tokens.renewed(token, MORE) == "with-more-scope"


async def test_a_missing_scope_and_a_file_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    """It ended the request with an error that nobody expected."""
    async with desk(tmp_path, (500, b"")) as at:
        at.write()
        token = await at.tokens.token()
        at.files.path("far").chmod(0o644)
        assert await at.tokens.renewed(token, MORE) == ""
        assert "mode must be 0600" in at.log[0]
        assert "mode must be 0600" in at.tokens.state.problem


async def test_a_tool_that_repeats_a_token_tells_it_to_nobody(tmp_path: Path) -> None:
    async with desk(tmp_path, Issuer()) as at:
        at.write()
        await at.tokens.token()
        at.clock.now = 200.0
        await at.tokens.token()
        hide = at.tokens.masking(bytes.upper)
        assert at.tokens.mask(b"first-access-token access-000001 other") == b"******** ******** other"
        assert hide(b"x") == b"X"
        assert "access-" not in repr(at.tokens)


# With the gateway's own credentials.

MACHINE = McpOAuth(grant="client_credentials", client_id="robot", client_secret=Secret("the-robots-secret"))


async def test_a_machine_asks_once_the_server_wants_a_token(tmp_path: Path) -> None:
    granted = {"access_token": "of-the-machine", "token_type": "Bearer", "expires_in": 100}
    async with desk(tmp_path, (200, granted), MACHINE) as at:
        assert await at.tokens.token() == ""
        assert at.client.asked == []
        tokens = await asyncio.gather(
            *(at.tokens.renewed("", Challenge(401, scope="a")) for _ in range(10)),
        )
        assert set(tokens) == {"of-the-machine"}
        assert at.asked == [{"grant_type": "client_credentials", "resource": TOOLS, "scope": "a"}]
        assert await at.tokens.renewed("of-the-machine", MORE) == ""  # the same one again
        assert at.asked[-1]["scope"] == "a b"
        assert await at.tokens.renewed("of-the-machine", MORE) == ""
        assert len(at.asked) == 2
        assert not at.files.folder.exists()


async def test_a_machine_that_is_refused_says_so_without_its_secret(tmp_path: Path) -> None:
    def reply(seen: Seen) -> Reply:
        return 401, {"error": "invalid_client", "error_description": seen.headers["authorization"]}

    async with desk(tmp_path, reply, MACHINE) as at:
        assert await at.tokens.renewed("", WANTED) == ""
        assert "invalid_client" in at.log[0]
        assert "Basic ********" in at.log[0]
        assert "has to look at its `auth`" in at.tokens.needed(WANTED)
        at.clock.now += RETRY_S
        with pytest.raises(CredentialError):
            await at.tokens.token()
        assert len(at.client.asked) == 6  # found anew: it may have moved
        assert len(at.log) == 1


async def test_an_assertion_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    file = tmp_path / "assertion"
    file.write_text("a.signed.assertion\n")
    auth = McpOAuth(grant="jwt_bearer", client_id="robot", assertion_file=str(file))
    refused = (400, {"error": "invalid_grant", "error_description": "a.signed.assertion has expired"})
    async with desk(tmp_path, refused, auth) as at:
        assert await at.tokens.renewed("", WANTED) == ""
        assert at.asked[0]["grant_type"] == JWT_BEARER
        assert at.asked[0]["assertion"] == "a.signed.assertion"
        assert "******** has expired" in at.log[0]
        file.unlink()
        at.clock.now += RETRY_S
        with pytest.raises(CredentialError, match="assertion"):
            await at.tokens.token()
