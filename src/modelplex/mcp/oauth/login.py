"""`modelplex mcp login`: from the name of a tool server to a sign-in in the state folder.

A person signs in with a browser: by authorization code with PKCE and a loopback redirect, or by the
device flow with a browser anywhere. Source: RFC 7636, RFC 8252, RFC 8628.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import time
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from modelplex.config.mcp_settings import McpOAuth, McpServer
from modelplex.credentials.source import CredentialError, CredentialRefused
from modelplex.credentials.token_request import post_form
from modelplex.http_client import HttpClient
from modelplex.mcp.oauth.challenge import union
from modelplex.mcp.oauth.discovery import Discovered, discover
from modelplex.mcp.oauth.metadata import DEVICE_GRANT, is_private
from modelplex.mcp.oauth.probe import challenge_of
from modelplex.mcp.oauth.redirect import RedirectAnswer, RedirectListener, redirect_listener
from modelplex.mcp.oauth.registration import registered_client
from modelplex.mcp.oauth.sign_in import RegisteredClient, SignIn
from modelplex.mcp.oauth.token_endpoint import GrantedToken, TokenEndpoint, authentication

LOGIN_S: Final = 600.0
"""Seconds for the person at the browser."""
DEVICE_INTERVAL_S: Final = 5.0
"""Seconds from one question to the next where the server names none (RFC 8628 3.2)."""
SLOWER_S: Final = 5.0
"""By which `slow_down` raises the interval (RFC 8628 3.5)."""
OFFLINE: Final = "offline_access"
"""The scope that asks for a refresh token where the server's metadata lists it."""


class LoginTerminal(msgspec.Struct, frozen=True):
    """What a login needs of the terminal it runs in.

    show   shows the person an address, and a code to enter there, or ""
    open   opens an address in a browser
    pasted  waits for an address that the person pastes; never returns where nobody can
    """

    show: Callable[[str, str], None]
    open: Callable[[str], None]
    pasted: Callable[[], Awaitable[str]]


class _DeviceCode(msgspec.Struct):
    """RFC 8628 3.2."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str = ""
    expires_in: float = LOGIN_S
    interval: float = DEVICE_INTERVAL_S

    def __repr__(self) -> str:
        return f"<_DeviceCode at {self.verification_uri}>"


class Login:
    """One login. `before` is the sign-in that it replaces, `scope` what is asked for besides."""

    def __init__(
        self,
        server: McpServer,
        client: HttpClient,
        terminal: LoginTerminal,
        *,
        before: SignIn | None = None,
        scope: str = "",
        clock: Callable[[], float] = time,
    ) -> None:
        self._url = "" if server.url is None else server.url.reveal()
        self._auth = server.auth or McpOAuth()
        self._client = client
        self._terminal = terminal
        self._before = before if before is not None and before.server == self._url else None
        self._more = scope
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Login at {urlsplit(self._url).hostname}>"

    async def run(self, *, device: bool) -> SignIn:
        """Raises CredentialError."""
        if not is_private(self._url, server=self._url):
            raise CredentialError("a sign-in needs a tool server at https, or at http on this machine")
        challenge = await challenge_of(self._client, self._url)
        found = await discover(self._client, self._url, challenge=challenge, issuer=self._auth.issuer)
        try:
            async with asyncio.timeout(LOGIN_S):
                if device:
                    return await self._by_device(found)
                return await self._by_browser(found)
        except TimeoutError:
            raise CredentialError(
                f"nobody signed in within {LOGIN_S / 60:.0f} minutes. If the page said that the client is unknown,"
                " `modelplex mcp logout` forgets it"
            ) from None

    def _scope(self, found: Discovered) -> str:
        """What the challenge or the metadata names, what an earlier sign-in had and lacked."""
        before = self._before
        kept = (
            union(before.scope, before.wanted)
            if before and before.client.issuer == found.server.issuer
            else ""
        )
        wanted = union(self._auth.scope or found.scope or "", kept, self._more)
        return union(wanted, OFFLINE) if OFFLINE in (found.server.scopes_supported or ()) else wanted

    async def _by_browser(self, found: Discovered) -> SignIn:
        server = found.server
        if not server.authorization_endpoint:
            raise CredentialError(f"{server.issuer} has no authorization endpoint: --device may do")
        if "S256" not in (server.code_challenge_methods_supported or ()):
            raise CredentialError(
                f"{server.issuer} does not say that it supports PKCE with S256 (code_challenge_methods_supported),"
                " without which the protocol allows no sign-in"
            )
        async with self._listener() as listener:
            client = await self._registered(found, listener.uri)
            return await self._code_flow(found, client, listener)

    @asynccontextmanager
    async def _listener(self) -> AsyncGenerator[RedirectListener]:
        """At the port of the config, or at that of the registered client if it is free."""
        port = self._auth.redirect_port
        earlier = urlsplit(self._before.client.redirect).port if self._before is not None else None
        async with AsyncExitStack() as stack:
            try:
                listener = await stack.enter_async_context(redirect_listener(port or earlier or 0))
            except CredentialError:
                if port:
                    raise
                listener = await stack.enter_async_context(redirect_listener(0))
            yield listener

    async def _code_flow(
        self, found: Discovered, client: RegisteredClient, listener: RedirectListener
    ) -> SignIn:
        server, scope = found.server, self._scope(found)
        answer = listener.answer = RedirectAnswer(
            server.issuer, iss_promised=server.authorization_response_iss_parameter_supported
        )
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": listener.uri,
            "state": answer.state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "resource": found.resource,
        }
        if scope:
            query["scope"] = scope
        if OFFLINE in scope.split():
            query["prompt"] = "consent"  # OpenID Connect Core 11: without it the scope is ignored
        mark = "&" if urlsplit(server.authorization_endpoint).query else "?"
        address = f"{server.authorization_endpoint}{mark}{urlencode(query)}"
        self._terminal.show(address, "")
        self._terminal.open(address)
        code = await self._code(answer)
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": listener.uri,
            "code_verifier": verifier,
        }
        return await self._signed_in(found, client, fields, scope)

    async def _code(self, answer: RedirectAnswer) -> str:
        """From the redirect, or from its address that the person pastes."""
        arrived = asyncio.ensure_future(answer.code())
        pasting = asyncio.ensure_future(self._paste(answer))
        try:
            await asyncio.wait({arrived, pasting}, return_when=asyncio.FIRST_COMPLETED)
            if pasting.done():
                pasting.result()
            return await arrived
        finally:
            for task in (arrived, pasting):
                task.cancel()
            await asyncio.gather(arrived, pasting, return_exceptions=True)

    async def _paste(self, answer: RedirectAnswer) -> None:
        while not answer.take(await self._terminal.pasted()):
            self._terminal.show("", "")

    async def _by_device(self, found: Discovered) -> SignIn:
        server, scope = found.server, self._scope(found)
        if not server.has_device_flow:
            raise CredentialError(f"{server.issuer} has no device flow (device_authorization_endpoint)")
        client = await self._registered(found, "http://127.0.0.1/callback")
        headers, proof = await authentication(
            client, key_file=self._auth.private_key_file, key_id=self._auth.key_id, now=self._clock()
        )
        place = f"the device authorization endpoint {server.device_authorization_endpoint}"
        fields = (
            {"resource": found.resource, "client_id": client.id} | proof | ({"scope": scope} if scope else {})
        )
        code = await post_form(
            self._client,
            server.device_authorization_endpoint,
            fields,
            kind=_DeviceCode,
            place=place,
            headers=headers,
        )
        for address in (code.verification_uri, code.verification_uri_complete):
            if address and not is_private(address, server=self._url):
                raise CredentialError(f"{place} names an address that is not https")
        self._terminal.show(code.verification_uri_complete or code.verification_uri, code.user_code)
        return await self._poll(found, client, code, scope)

    async def _poll(
        self, found: Discovered, client: RegisteredClient, code: _DeviceCode, scope: str
    ) -> SignIn:
        interval = max(0.0, code.interval)
        fields = {"grant_type": DEVICE_GRANT, "device_code": code.device_code}
        try:
            async with asyncio.timeout(code.expires_in):
                while True:
                    await asyncio.sleep(interval)
                    try:
                        return await self._signed_in(found, client, fields, scope)
                    except CredentialRefused as refused:
                        if refused.code == "slow_down":
                            interval += SLOWER_S
                        elif refused.code != "authorization_pending":
                            raise
        except TimeoutError:
            raise CredentialError("nobody entered the code before it expired") from None

    async def _registered(self, found: Discovered, redirect: str) -> RegisteredClient:
        before = None if self._before is None else self._before.client
        return await registered_client(
            self._client, self._auth, found.server, redirect=redirect, before=before, now=self._clock()
        )

    async def _signed_in(
        self, found: Discovered, client: RegisteredClient, fields: dict[str, str], scope: str
    ) -> SignIn:
        now = self._clock()
        endpoint = TokenEndpoint(
            url=found.server.token_endpoint,
            resource=found.resource,
            client=client,
            key_file=self._auth.private_key_file,
            key_id=self._auth.key_id,
        )
        token: GrantedToken = await endpoint.ask(self._client, fields, now=now)
        return SignIn(
            server=self._url,
            resource=found.resource,
            token_endpoint=found.server.token_endpoint,
            revocation_endpoint=found.server.revocation_endpoint,
            client=client,
            access_token=token.access_token,
            refresh_token=token.refresh_token or "",
            obtained_at=now,
            expires_at=token.expires_at(now),
            scope=scope or token.scope or "",
        )
