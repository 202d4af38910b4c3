"""A web of scripted pages: one server that answers for every host, and a client that asks it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from modelplex.http_client import HttpClient, HttpResponse, Origin, Timeouts, parse_origin
from modelplex.mcp.oauth.sign_in import RegisteredClient, SignIn
from tests.credentials.clouds import Reply, cloud
from tests.upstreams import Seen

Page = Reply | Callable[[Seen], Reply]
TOOLS = "http://127.0.0.1:1/mcp"
"""A tool server."""
ISSUER = "http://127.0.0.1:2"
"""Its authorization server."""
RESOURCE_PAGE = "http://127.0.0.1:1/.well-known/oauth-protected-resource/mcp"
ISSUER_PAGE = "http://127.0.0.1:2/.well-known/oauth-authorization-server"
TOKEN = f"{ISSUER}/token"


class Web(HttpClient):
    """`asked` has the address of each request. No name is looked up, and nothing is encrypted."""

    def __init__(self, there: Origin) -> None:
        super().__init__()
        self._there = there
        self.asked: list[str] = []
        self.seen: list[Seen] = []

    async def send(
        self,
        origin: Origin,
        *,
        method: bytes = b"POST",
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]] | bytes,
        body: bytes = b"",
        timeouts: Timeouts,
    ) -> HttpResponse:
        url = f"http{'s' if origin.tls else ''}://{origin.authority}{target.decode()}"
        self.asked.append(url)
        assert not isinstance(headers, bytes)
        return await super().send(
            self._there,
            method=method,
            target=target,
            headers=[(b"x-url", url.encode()), *headers],
            body=body,
            timeouts=timeouts,
        )


@asynccontextmanager
async def web(pages: Mapping[str, Page]) -> AsyncGenerator[Web]:
    """Other pages are not found."""

    def reply(seen: Seen) -> Reply:
        client.seen.append(seen)
        page = pages.get(seen.headers["x-url"], (404, b"<html>"))
        return page(seen) if callable(page) else page

    async with cloud(reply) as service:
        client = Web(parse_origin(service.url)[0])
        try:
            yield client
        finally:
            await client.aclose()


def resource(**more: Any) -> Reply:
    return 200, {"resource": TOOLS, "authorization_servers": [ISSUER], **more}


def issuer(**more: Any) -> Reply:
    metadata = {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": TOKEN,
        "registration_endpoint": f"{ISSUER}/register",
        "code_challenge_methods_supported": ["S256"],
    }
    return 200, {name: value for name, value in (metadata | more).items() if value is not None}


def pages(**more: Any) -> dict[str, Page]:
    """The metadata of both; `more` is in the authorization server's, without what is None."""
    return {RESOURCE_PAGE: resource(), ISSUER_PAGE: issuer(**more)}


def sign_in(**more: Any) -> SignIn:
    fields: dict[str, Any] = {
        "server": TOOLS,
        "resource": TOOLS,
        "token_endpoint": TOKEN,
        "client": RegisteredClient(id="c", issuer=ISSUER),
        "access_token": "first-access-token",
        "refresh_token": "first-refresh-token",
        "obtained_at": 0.0,
        "expires_at": 100.0,
    }
    return SignIn(**{**fields, **more})
