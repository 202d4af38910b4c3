"""The token of a running gateway for one tool server: read from its sign-in, renewed, or had with
the gateway's own credentials.

`Refreshed` holds a value and fetches it once for all who wait. The file is read again every
`HOLDS_S` while the server is in use, so that a sign-in, or its end, needs no restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time
from typing import Final

import msgspec

from modelplex.config.mcp_settings import McpOAuth, McpServer
from modelplex.credentials.key_file import read_key
from modelplex.credentials.source import CredentialError, CredentialRefused, Expiring, Refreshed
from modelplex.http_client import HttpClient
from modelplex.mcp.oauth.challenge import Challenge, union
from modelplex.mcp.oauth.discovery import Discovered, discover
from modelplex.mcp.oauth.registration import configured_client
from modelplex.mcp.oauth.sign_in import RegisteredClient, SignIn
from modelplex.mcp.oauth.store import SignInFiles
from modelplex.mcp.oauth.token_endpoint import TokenEndpoint
from modelplex.records.log import Secrets

HOLDS_S: Final = 2.0
"""Seconds until the file is read again."""
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
"""RFC 7523 2.1"""
SHOWN: Final = 200
"""Characters of the scopes in a sentence."""
LONGEST: Final = 1_000
"""Characters of a problem, of which foreign servers write a part."""
DEAD: Final = frozenset({"invalid_grant", "invalid_client", "unauthorized_client", "invalid_target"})
"""Errors after which only a new sign-in helps."""


class SignInState(msgspec.Struct, frozen=True, kw_only=True):
    """In `/_internal/mcp`. `until` in Unix seconds, None where the token's end is not known;
    `renews` whether it is renewed then without a person.
    """

    agent: str = ""
    signed_in: bool
    until: float | None = None
    renews: bool = False
    scope: str = ""
    problem: str = ""


class ServerTokens:
    """`agent` is "" for the sign-in of the host. `warn` takes a sentence for the host's log, which
    no agent sees.
    """

    def __init__(
        self,
        server: McpServer,
        files: SignInFiles,
        client: HttpClient,
        *,
        agent: str = "",
        warn: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._server = server
        self._auth = server.auth or McpOAuth()
        self._url = "" if server.url is None else server.url.reveal()
        self._files = files
        self._client = client
        self._agent = agent
        self._warn = warn
        self._clock = clock
        self._tokens = Refreshed(self._fetch, clock=clock)
        self._refused = ""
        self._challenge: Challenge | None = None
        self._discovered: Discovered | None = None
        self._scope = self._auth.scope
        self._problem = ""
        self._state = SignInState(agent=agent, signed_in=False)
        self._masks: tuple[tuple[str, ...], Secrets] = ((), Secrets())

    def __repr__(self) -> str:
        return f"<ServerTokens {self._server.name} {self._agent} {self._tokens!r}>"

    @property
    def state(self) -> SignInState:
        """As it was when the token was last used."""
        return msgspec.structs.replace(self._state, problem=self._problem)

    @property
    def not_renewed(self) -> str:
        """For agents: why no request was sent."""
        return f"Its token could not be renewed. The owner of this host sees why with `modelplex mcp status {self._server.name}`."

    def needed(self, challenge: Challenge) -> str:
        """For agents: what only a person on the host can do."""
        if self._auth.by_itself:
            return "It refused the token of this host, whose owner has to look at its `auth` in the config."
        command = login_command(self._server.name, self._agent)
        if challenge.wants_more:
            what = f" ({challenge.scope[:SHOWN]})" if challenge.scope else ""
            return f"It requires more permissions{what}: the owner of this host has to run `{command}`."
        return f"It requires a sign-in: the owner of this host has to run `{command}`."

    def masking(self, before: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """Masks these tokens too."""
        return lambda data: self.mask(before(data))

    def mask(self, data: bytes) -> bytes:
        """`data` without the tokens of this server, which a tool may repeat."""
        values = self._tokens.values
        if values != self._masks[0]:
            self._masks = values, Secrets(values)
        return self._masks[1].mask(data)

    async def token(self) -> str:
        """The access token; "" if there is none, since some servers answer some requests without.
        Raises CredentialError if one could not be renewed.
        """
        return await self._tokens.get()

    async def renewed(self, refused: str, challenge: Challenge | None) -> str:
        """Another token in place of one that was refused, or that has too small a scope; "" if a
        person has to sign in for one.
        """
        if challenge is not None and challenge.wants_more:
            try:
                return await self._with_more(refused, challenge)
            except CredentialError as error:
                self._show_problem(error)
                return ""
        self._refused, self._challenge = refused, challenge
        return await self._tokens.renewed(refused) or ""

    async def _with_more(self, refused: str, challenge: Challenge) -> str:
        """A machine asks for more itself. For a person, what was missing is kept for the next
        `modelplex mcp login`; renewing gives no more than before.
        """
        if self._auth.by_itself:
            wanted = union(self._scope, challenge.scope)
            if wanted != self._scope:
                self._scope, self._refused = wanted, refused
                return await self._tokens.renewed(refused) or ""
            return ""
        kept = await asyncio.to_thread(self._read)
        if kept is not None and kept.access_token != refused and kept.holds(self._clock()):
            return await self._tokens.renewed(refused) or ""
        if kept is not None and (wanted := union(kept.wanted, challenge.scope)) != kept.wanted:
            await self._note(kept, wanted)
        return ""

    async def _note(self, kept: SignIn, wanted: str) -> None:
        async with self._files.locked(self._server.name, self._agent):
            now = await asyncio.to_thread(self._read)
            if now == kept:
                await asyncio.to_thread(self._write, msgspec.structs.replace(kept, wanted=wanted))

    # What `Refreshed` fetches.

    async def _fetch(self) -> Expiring[str]:
        try:
            found = await (self._of_machine() if self._auth.by_itself else self._of_sign_in())
        except CredentialError as error:
            self._show_problem(error)
            raise
        self._problem = ""
        return found

    def _show_problem(self, error: CredentialError) -> None:
        problem = str(error)[:LONGEST]
        if problem != self._problem:
            self._problem = problem
            self._warn(f"its token could not be had: {problem}")

    async def _of_sign_in(self) -> Expiring[str]:
        now = self._clock()
        kept = await asyncio.to_thread(self._read)
        if kept is not None and not self._may_use(kept, now):
            kept = await self._refreshed()
        self._show(kept)
        refused, self._refused = self._refused, ""
        if kept is None or not kept.holds(now) or kept.access_token == refused:
            return Expiring("", now + HOLDS_S)
        until = now + HOLDS_S
        return Expiring(kept.access_token, until if kept.expires_at is None else min(until, kept.expires_at))

    def _may_use(self, kept: SignIn, now: float) -> bool:
        """Whether the token is used as it is, or none can be had."""
        if kept.ended:
            return True
        return kept.is_fresh(now) and kept.access_token != self._refused

    async def _refreshed(self) -> SignIn | None:
        """The sign-in with another token; the same with a reason if there is none. One process
        renews it, and the others read what it wrote.
        """
        async with self._files.locked(self._server.name, self._agent):
            now = self._clock()
            kept = await asyncio.to_thread(self._read)
            if kept is None or self._may_use(kept, now):
                return kept
            if not kept.refresh_token:
                return kept if kept.holds(now) else await self._end(kept, "the token has expired")
            if kept.access_token == self._refused and kept.is_new(now):
                return kept
            try:
                fresh = await self._ask_for_another(kept)
            except CredentialError as error:
                if isinstance(error, CredentialRefused) and error.code in DEAD:
                    return await self._end(kept, str(error)[:LONGEST])
                if kept.holds(now) and kept.access_token != self._refused:
                    return kept
                raise
            await asyncio.to_thread(self._write, fresh)
            return fresh

    async def _ask_for_another(self, kept: SignIn) -> SignIn:
        now = self._clock()
        endpoint = TokenEndpoint(
            url=kept.token_endpoint,
            resource=kept.resource,
            client=kept.client,
            key_file=self._auth.private_key_file,
            key_id=self._auth.key_id,
        )
        fields = {"grant_type": "refresh_token", "refresh_token": kept.refresh_token}
        token = await endpoint.ask(self._client, fields, now=now)
        return msgspec.structs.replace(
            kept,
            access_token=token.access_token,
            refresh_token=token.refresh_token or kept.refresh_token,
            obtained_at=now,
            expires_at=token.expires_at(now),
        )

    async def _end(self, kept: SignIn, reason: str) -> SignIn:
        ended = msgspec.structs.replace(kept, ended=reason, access_token="", refresh_token="")
        await asyncio.to_thread(self._write, ended)
        self._warn(f"its sign-in has ended: {reason}. Run `{login_command(self._server.name, self._agent)}`")
        return ended

    def _read(self) -> SignIn | None:
        """None also for a sign-in at another address, which this server does not get."""
        kept = self._files.read(self._server.name, self._agent)
        return kept if kept is not None and kept.server == self._url else None

    def _write(self, sign_in: SignIn) -> None:
        self._files.write(sign_in, self._server.name, self._agent)

    def _show(self, kept: SignIn | None) -> None:
        self._state = state_of(kept, now=self._clock(), agent=self._agent)

    async def _of_machine(self) -> Expiring[str]:
        """With the gateway's own credentials (RFC 6749 4.4, RFC 7523 2.1), once the server wants a
        token.
        """
        now = self._clock()
        if self._challenge is None:
            return Expiring("", now + HOLDS_S)
        if self._discovered is None:
            self._discovered = await discover(
                self._client, self._url, challenge=self._challenge, issuer=self._auth.issuer
            )
        found = self._discovered
        endpoint = TokenEndpoint(
            url=found.server.token_endpoint,
            resource=found.resource,
            client=configured_client(self._auth, found.server) or RegisteredClient(id="", issuer=""),
            key_file=self._auth.private_key_file,
            key_id=self._auth.key_id,
        )
        self._scope = self._scope or found.scope or ""
        fields = {"grant_type": "client_credentials"}
        if self._auth.grant == "jwt_bearer":
            assertion = await asyncio.to_thread(read_key, self._auth.assertion_file)
            fields = {"grant_type": JWT_BEARER, "assertion": assertion}
        if self._scope:
            fields["scope"] = self._scope
        try:
            token = await endpoint.ask(self._client, fields, now=now)
        except CredentialError:
            self._discovered = None  # it may have moved
            raise
        self._state = SignInState(
            agent=self._agent, signed_in=True, until=token.expires_at(now), renews=True, scope=self._scope
        )
        return Expiring(token.access_token, token.expires_at(now))


def login_command(server: str, agent: str = "") -> str:
    return f"modelplex mcp login {server}" + (f" --agent {agent}" if agent else "")


def state_of(kept: SignIn | None, *, now: float, agent: str = "") -> SignInState:
    if kept is None:
        return SignInState(agent=agent, signed_in=False)
    return SignInState(
        agent=agent,
        signed_in=kept.is_usable(now),
        until=kept.expires_at,
        renews=bool(kept.refresh_token),
        scope=kept.scope,
        problem=kept.ended or (f"it lacks the scope {kept.wanted}" if kept.wanted else ""),
    )
