"""Who sends a request to /_internal/, and whether that admin may do it.

An admin is known by a token, by the cookie that the page made of it, by its user at the admin
socket, or, while nobody has configured a token, by coming from this machine. Tokens are compared by
their hashes, in constant time. docs/decisions/0052-admins.md has the reasons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address

import msgspec

from modelplex.config import AdminConfig, Secret
from modelplex.config.admins import MIN_TOKEN
from modelplex.config.settings import AdminRight, KeyFromCommand, KeyInFile, ServerConfig
from modelplex.core.caller import Caller
from modelplex.core.errors import PolicyDenied, Unauthorized
from modelplex.credentials.key_command import KeyCommand, RunCommand
from modelplex.credentials.key_file import KeyFile
from modelplex.credentials.source import CredentialError, Refreshed
from modelplex.dashboard.access import bearer_of, cookie_of, cookies_of
from modelplex.records.log import EventLog
from modelplex.server.internal_routes import RIGHTS, InternalRoute

READER: frozenset[AdminRight] = frozenset({"metrics", "read"})
"""Of a client on this machine, where no token is configured."""


class Admin(msgspec.Struct, frozen=True):
    """`by` and `name` as in AdminAct. `by_cookie`: a browser sent it, and so may another page."""

    by: str
    may: frozenset[AdminRight]
    name: str = ""
    by_cookie: bool = False

    def has(self, right: AdminRight) -> bool:
        return right in self.may or (right == "metrics" and "read" in self.may)


ALL = frozenset(RIGHTS)


class _Token:
    """One token: its value, or where it is from. The hashes are those of the last value."""

    def __init__(self, admin: Admin, *, value: str = "", source: Refreshed[str] | None = None) -> None:
        self.admin = admin
        self._source = source
        self._value = ""
        self._hash = self._cookie_hash = b""
        self.failure = ""
        if source is None:
            self._take(value)

    def __repr__(self) -> str:
        return f"<_Token of {self.admin.name or self.admin.by}>"

    @property
    def waits(self) -> bool:
        """Whether its value has to be fetched."""
        if self._source is None:
            return False
        value = self._source.now()
        self._take(value or "")
        return value is None

    async def fetch(self) -> None:
        assert self._source is not None
        try:
            value = await self._source.get()
        except CredentialError as error:
            self.failure = str(error)
            self._take("")
            return
        self.failure = "" if len(value) >= MIN_TOKEN else f"it has less than {MIN_TOKEN} characters"
        self._take(value)

    def _take(self, value: str) -> None:
        if value == self._value:
            return
        self._value = value if self._source is None or len(value) >= MIN_TOKEN else ""
        self._hash = sha256(self._value.encode()).digest() if self._value else b""
        self._cookie_hash = sha256(cookie_of(self._value).encode()).digest() if self._value else b""

    def is_sent(self, hashed: bytes, *, as_cookie: bool) -> bool:
        known = self._cookie_hash if as_cookie else self._hash
        return bool(known) and compare_digest(known, hashed)


class InternalAccess:
    """`run` runs a command that prints a token, by default as a child of this process. `own_token`
    is that which the gateway has made for the page, "" for none.
    """

    def __init__(self, server: ServerConfig, *, events: EventLog, run: RunCommand | None = None) -> None:
        self._events = events
        self._run = run
        self.own_token = ""
        self._tokens: list[_Token] = []
        self.configure(server)

    def __repr__(self) -> str:
        return f"<InternalAccess {len(self._tokens)} tokens>"

    def configure(self, server: ServerConfig) -> None:
        """Use these settings from now on, also for cookies."""
        self._server = server
        self._tokens = [self._token_of(each) for each in server.admins if each.token is not None]
        self._users = {uid: _admin(each, "socket") for each in server.admins for uid in each.uid}
        if server.internal_token is not None:
            admin = Admin("internal token", ALL)
            self._tokens.append(_Token(admin, value=server.internal_token.reveal()))
        self._own: _Token | None = None

    @property
    def page_token(self) -> str:
        """`[server] internal_token`, else the gateway's own; "" where that is configured away."""
        configured = self._server.internal_token
        if configured is not None:
            return configured.reveal()
        return self.own_token if self._server.page_token else ""

    def _all_tokens(self) -> Sequence[_Token]:
        if self._server.internal_token is not None or not self.page_token:
            return self._tokens
        if self._own is None:
            self._own = _Token(Admin("page token", ALL), value=self.page_token)
        return [*self._tokens, self._own]

    def _token_of(self, admin: AdminConfig) -> _Token:
        known = _admin(admin, "token")
        match admin.token:
            case Secret() as secret:
                return _Token(known, value=secret.reveal())
            case KeyInFile(path):
                return _Token(known, source=Refreshed(KeyFile(path).fetch))
            case KeyFromCommand(words):
                failed = partial(self._command_failed, admin.name)
                command = KeyCommand([word.reveal() for word in words], failed=failed, run=self._run)
                return _Token(known, source=Refreshed(command.fetch))
            case None:
                raise AssertionError("an admin without a token")

    def _command_failed(self, admin: str, said: str) -> None:
        self._events.warning("a key command failed", admin=admin, stderr=said)

    async def find(self, text: str, *, as_cookie: bool = False) -> Admin | None:
        """The admin of this token, or of a cookie's value."""
        if not text:
            return None
        hashed = sha256(text.encode()).digest()
        tokens = self._all_tokens()
        waiting = [token for token in tokens if token.waits]
        found = _sent(tokens, hashed, as_cookie=as_cookie)
        if found is None and waiting:
            before = [token.failure for token in waiting]
            await asyncio.gather(*(token.fetch() for token in waiting))
            for token, failure in zip(waiting, before, strict=True):
                if token.failure and token.failure != failure:
                    self._events.warning(
                        "an admin's token cannot be used", admin=token.admin.name, reason=token.failure
                    )
            found = _sent(waiting, hashed, as_cookie=as_cookie)
        return found

    async def identify(
        self, route: InternalRoute, caller: Caller, headers: Mapping[str, str]
    ) -> Admin | None:
        """None for a caller that is not known, or that none of [[server.admins]] is for at the
        admin socket.
        """
        if caller.kind == "admin" and self._users and self._user(caller) is None:
            return None
        # An agent's token is none of an admin, whatever a file or command says.
        given = await self.find(bearer_of(headers)) if not caller.agent else None
        if route.part == "page":
            if given is None:
                for cookie in cookies_of(headers):
                    if (admin := await self.find(cookie, as_cookie=True)) is not None:
                        return msgspec.structs.replace(admin, by=f"{admin.by} (page)", by_cookie=True)
            return given
        if given is not None:
            return given
        if caller.kind == "admin":
            return self._user(caller)
        if not self._needs_token and _is_loopback(caller.client):
            return Admin("nobody", READER)
        return None

    def _user(self, caller: Caller) -> Admin | None:
        """By the kernel's word for the process that connected."""
        if not self._users:
            return Admin("socket", ALL)
        return self._users.get(caller.peer.uid) if caller.peer is not None else None

    @property
    def _needs_token(self) -> bool:
        return self._server.internal_token is not None or any(each.token for each in self._server.admins)

    def check(self, route: InternalRoute, caller: Caller, admin: Admin | None) -> None:
        """Raises Unauthorized or PolicyDenied."""
        if route.right == "anybody":
            return
        what = f"{route.method} /_internal/{route.path}"
        if admin is None:
            raise self._unknown(route, caller)
        if not admin.has(route.right):
            if admin.by == "nobody":
                raise Unauthorized(
                    f"{what} changes something, and over HTTP needs the token of one of [[server.admins]] with "
                    f"may = [\"{route.right}\"], as 'Authorization: Bearer TOKEN'. The admin socket needs none."
                )
            may = ", ".join(f'"{right}"' for right in RIGHTS if right in admin.may)
            raise PolicyDenied(
                f'Policy: {what} needs the right "{route.right}", and the admin {admin.name!r} has {may}. '
                "The setting is [[server.admins]] may.",
                code="admin_may_not",
            )
        if route.part == "agent" and route.act and caller.kind == "tcp" and not admin.name:
            raise PolicyDenied(
                f"Policy: {what} over HTTP needs the token of one of [[server.admins]]; the {admin.by} adds and "
                "removes no agents. The admin socket does.",
                code="admin_may_not",
            )

    def _unknown(self, route: InternalRoute, caller: Caller) -> Unauthorized | PolicyDenied:
        if caller.kind == "admin" and self._users and self._user(caller) is None:
            who = "a user that the kernel does not name" if caller.peer is None else f"uid {caller.peer.uid}"
            return PolicyDenied(
                f"Policy: the admin socket serves the users of [[server.admins]] uid, and yours is {who}.",
                code="uid_not_allowed",
            )
        if route.part == "page":
            return Unauthorized(
                "The page needs its token: open the link that the gateway printed when it started, or send "
                "'Authorization: Bearer TOKEN', which may also be that of one of [[server.admins]]."
            )
        if not self._needs_token:
            return PolicyDenied(
                "Policy: /_internal/ is for clients on this machine. Set [[server.admins]] or [server] internal_token to reach "
                "it from elsewhere.",
                code="internal_only",
            )
        return Unauthorized(
            "/_internal/ needs the header 'Authorization: Bearer TOKEN', with the token of one of [[server.admins]] or "
            "[server] internal_token."
        )


def _admin(config: AdminConfig, by: str) -> Admin:
    return Admin(by, frozenset(config.may), config.name)


def _sent(tokens: Sequence[_Token], hashed: bytes, *, as_cookie: bool) -> Admin | None:
    """All are compared, whichever is right."""
    found = [token.admin for token in tokens if token.is_sent(hashed, as_cookie=as_cookie)]
    return found[0] if found else None


def _is_loopback(client: str) -> bool:
    try:
        return ip_address(client).is_loopback
    except ValueError:
        return False
