from __future__ import annotations

from typing import Any

import pytest

from modelplex.credentials.source import CredentialError
from modelplex.credentials.token_request import MAX_BODY
from modelplex.mcp.oauth.challenge import Challenge
from modelplex.mcp.oauth.discovery import discover
from tests.credentials.clouds import Reply

from .web import ISSUER, ISSUER_PAGE, RESOURCE_PAGE, TOKEN, TOOLS, Page, issuer, pages, resource, web

FAR = "https://tools.example/mcp"
FAR_PAGE = "https://tools.example/.well-known/oauth-protected-resource/mcp"
DEEP = b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"


async def public(host: str) -> list[str]:
    return [host] if host[0].isdigit() or ":" in host else ["93.184.215.14"]


async def refusal(served: dict[str, Page], **more: Any) -> str:
    async with web(served) as client:
        with pytest.raises(CredentialError) as refused:
            await discover(client, TOOLS, **more)
    return str(refused.value)


async def test_both_metadata_are_found_and_the_scope_is_that_of_the_challenge() -> None:
    async with web({RESOURCE_PAGE: resource(scopes_supported=["a", "b"]), ISSUER_PAGE: issuer()}) as client:
        found = await discover(client, TOOLS)
        assert (found.resource, found.scope, found.server.token_endpoint) == (TOOLS, "a b", TOKEN)
        assert client.asked == [RESOURCE_PAGE, ISSUER_PAGE]
        assert not any("authorization" in seen.headers for seen in client.seen)
        assert (await discover(client, TOOLS, challenge=Challenge(401, scope="c"))).scope == "c"


async def test_a_server_without_metadata_has_the_endpoints_of_old() -> None:
    async with web({}) as client:
        found = await discover(client, TOOLS)
    assert found.scope is None
    assert found.server.token_endpoint == "http://127.0.0.1:1/token"


@pytest.mark.parametrize(
    "page",
    [
        (200, b"<html>a page for every path</html>"),
        (200, b""),
        (200, b"\xff\xfe"),
        (200, b'{"issuer": "http://127.0.0.1:2"'),
        (200, DEEP),
        (200, {"issuer": None}),
        (200, {"issuer": ISSUER, "token_endpoint": ["x"]}),
        (302, b""),
        (404, b"{}"),
    ],
)
async def test_malformed_metadata_is_none(page: Reply) -> None:
    told = await refusal({RESOURCE_PAGE: resource(), ISSUER_PAGE: page})
    assert told == f"the authorization server {ISSUER} has no metadata, or none that is valid"


async def test_metadata_at_the_second_place_does() -> None:
    second = "http://127.0.0.1:2/.well-known/openid-configuration"
    async with web({RESOURCE_PAGE: resource(), ISSUER_PAGE: (200, DEEP), second: issuer()}) as client:
        assert (await discover(client, TOOLS)).server.issuer == ISSUER


@pytest.mark.parametrize("place", [RESOURCE_PAGE, ISSUER_PAGE])
async def test_a_fault_that_may_pass_is_no_absence(place: str) -> None:
    assert await refusal({**pages(), place: (503, b"")}) == f"{place} answered 503"


@pytest.mark.parametrize("place", [RESOURCE_PAGE, ISSUER_PAGE])
async def test_a_huge_answer_is_not_read(place: str) -> None:
    told = await refusal({**pages(), place: (200, b" " * (MAX_BODY + 1))})
    assert told.startswith(f"{place}: ")


@pytest.mark.parametrize("name", [f"{ISSUER}/", "http://127.0.0.1:3", "", "https://accounts.example"])
async def test_metadata_of_another_issuer_is_refused(name: str) -> None:
    assert await refusal(pages(issuer=name)) == (
        f"the metadata at {ISSUER_PAGE} is of another issuer than {ISSUER}: {name!r}"
    )


async def test_a_server_that_is_its_own_names_no_other_issuer() -> None:
    """It would get the code of the other one, whose `iss` would be right."""
    own = "http://127.0.0.1:1/.well-known/oauth-authorization-server"
    told = await refusal({own: issuer(issuer="https://accounts.example")})
    assert "is of another issuer than http://127.0.0.1:1" in told
    async with web({own: issuer(issuer="http://127.0.0.1:1/")}) as client:
        assert (await discover(client, TOOLS)).server.issuer == "http://127.0.0.1:1/"


async def test_metadata_of_another_resource_is_refused() -> None:
    told = await refusal({RESOURCE_PAGE: resource(resource="http://127.0.0.1:9/mcp"), ISSUER_PAGE: issuer()})
    assert "is of another resource than the tool server: 'http://127.0.0.1:9/mcp'" in told


@pytest.mark.parametrize("named", [[], ()])
async def test_metadata_without_an_authorization_server_is_refused(named: Any) -> None:
    assert "names no authorization server" in await refusal(
        {RESOURCE_PAGE: resource(authorization_servers=named)}
    )


async def test_metadata_without_a_token_endpoint_is_refused() -> None:
    assert "names no token endpoint" in await refusal(pages(token_endpoint=None))


async def test_the_address_in_a_challenge_must_have_metadata() -> None:
    named = "http://127.0.0.1:1/elsewhere"
    told = await refusal(pages(), challenge=Challenge(401, metadata=named))
    assert told == f"the tool server's metadata is not at {named}"


async def test_the_issuer_of_the_config_is_among_those_of_the_server() -> None:
    other = "http://127.0.0.1:9"
    told = await refusal(pages(), issuer=other)
    assert (
        told == f"the tool server's authorization server is {ISSUER}, and `issuer` in its `auth` is {other}"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://idp.example/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/",
        "file:///etc/passwd",
        "unix:/run/docker.sock",
        "gopher://idp.example/",
        "javascript:alert(1)",
        "//idp.example/",
        "https://user:password@idp.example/",
        "https://idp.example/#here",
        "https://idp.example/\r\nx-header: 1",
        "https://idp.example/\u200b",
        "https://[idp.example/",
    ],
)
@pytest.mark.parametrize("place", ["challenge", "authorization_servers", "token_endpoint"])
async def test_no_address_leads_to_this_machine_or_to_another_scheme(url: str, place: str) -> None:
    """Whichever of the three a tool server names it in, nothing is sent there."""
    idp = "https://idp.example"
    metadata = {
        "issuer": idp,
        "token_endpoint": f"{idp}/token",
        "authorization_endpoint": f"{idp}/authorize",
        **({place: url} if place == "token_endpoint" else {}),
    }
    servers = [url if place == "authorization_servers" else idp]
    served: dict[str, Page] = {
        FAR_PAGE: (200, {"resource": FAR, "authorization_servers": servers}),
        f"{idp}/.well-known/oauth-authorization-server": (200, metadata),
    }
    challenge = Challenge(401, metadata=url) if place == "challenge" else None
    async with web(served) as client:
        with pytest.raises(CredentialError):
            await discover(client, FAR, challenge=challenge, resolve=public)
        hosts = {asked.split("/")[2] for asked in client.asked}
        assert hosts <= {"tools.example", "idp.example"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with web({**pages(), RESOURCE_PAGE: (status, b"")}) as client:
        await discover(client, TOOLS)
        assert client.asked[:2] == [RESOURCE_PAGE, RESOURCE_PAGE.removesuffix("/mcp")]


async def test_what_a_server_names_is_cut_in_the_sentence() -> None:
    long = "http://127.0.0.1:9/" + "x" * 100_000
    assert len(await refusal(pages(issuer=long))) < 1_000
    assert len(await refusal(pages(token_endpoint=long.replace("http", "ftp")))) < 1_000
