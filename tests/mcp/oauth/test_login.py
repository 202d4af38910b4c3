"""`Login` against scripted servers, with a browser that the test plays."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from modelplex.config import Secret
from modelplex.config.mcp_settings import McpOAuth, McpServer
from modelplex.credentials.source import CredentialError
from modelplex.mcp.oauth import login as login_module
from modelplex.mcp.oauth.login import Login, LoginTerminal
from modelplex.mcp.oauth.sign_in import RegisteredClient, SignIn
from tests.credentials.clouds import Clock, Reply, form
from tests.upstreams import Seen

from .web import ISSUER, TOKEN, TOOLS, Page, Web, pages, sign_in, web

GRANTED: Reply = (
    200,
    {"access_token": "a-new-token", "token_type": "Bearer", "expires_in": 60, "refresh_token": "r-new"},
)
DEVICE = f"{ISSUER}/device"
CODE: Reply = (
    200,
    {
        "device_code": "the-device-code",
        "user_code": "AB-CD",
        "verification_uri": f"{ISSUER}/enter",
        "expires_in": 600,
        "interval": 0,
    },
)
Browser = Callable[[dict[str, str]], Awaitable[None]]


class Person:
    """At the terminal, and at the browser that it opens."""

    def __init__(
        self, browse: Browser | None = None, paste: Callable[[dict[str, str]], list[str]] | None = None
    ) -> None:
        self.shown: list[tuple[str, str]] = []
        self.asked: dict[str, str] = {}
        self._browse, self._paste = browse, paste
        self._lines: list[str] = []
        self._tasks: list[asyncio.Future[None]] = []
        self.terminal = LoginTerminal(self._show, self._open, self._pasted)

    def _show(self, address: str, code: str) -> None:
        self.shown.append((address, code))

    def _open(self, address: str) -> None:
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        if self._paste is not None:
            self._lines = self._paste(self.asked)
        if self._browse is not None:
            self._tasks.append(asyncio.ensure_future(self._browse(self.asked)))

    async def _pasted(self) -> str:
        if self._lines:
            return self._lines.pop(0)
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never


async def visit(uri: str, **fields: str) -> bytes:
    at = urlsplit(uri)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(f"GET {at.path}?{urlencode(fields)} HTTP/1.1\r\n\r\n".encode())
    page = await reader.read()
    writer.close()
    return page


async def agree(asked: dict[str, str]) -> None:
    await visit(asked["redirect_uri"], code="the-code", state=asked["state"], iss=ISSUER)


def served(token: Page = GRANTED, **more: Any) -> dict[str, Page]:
    return {
        **pages(**more),
        TOKEN: token,
        f"{ISSUER}/register": (201, {"client_id": "made"}),
    }


@asynccontextmanager
async def logging_in(
    pages: dict[str, Page], person: Person, *, auth: McpOAuth | None = None, url: str = TOOLS, **more: Any
) -> AsyncGenerator[tuple[Login, Web]]:
    async with web(pages) as client:
        server = McpServer(name="far", url=Secret(url), auth=auth)
        yield Login(server, client, person.terminal, clock=Clock(1_000.0), **more), client


async def run(
    pages: dict[str, Page], person: Person, *, device: bool = False, **more: Any
) -> tuple[SignIn, list[Seen]]:
    async with logging_in(pages, person, **more) as (login, client):
        async with asyncio.timeout(20):
            made = await login.run(device=device)
        return made, client.seen


async def refusal(pages: dict[str, Page], person: Person, **more: Any) -> str:
    with pytest.raises(CredentialError) as refused:
        await run(pages, person, **more)
    for secret in ("a-new-token", "the-code", "the-device-code"):
        assert secret not in str(refused.value)
    return str(refused.value)


async def test_a_code_is_exchanged_with_the_verifier_of_its_challenge() -> None:
    person = Person(agree)
    made, seen = await run(served(), person)
    sent = form(seen[-1])
    digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
    assert person.asked["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert person.asked["code_challenge_method"] == "S256"
    assert (sent["code"], sent["redirect_uri"], sent["resource"], sent["client_id"]) == (
        "the-code",
        person.asked["redirect_uri"],
        TOOLS,
        "made",
    )
    assert made == SignIn(
        server=TOOLS,
        resource=TOOLS,
        token_endpoint=TOKEN,
        client=RegisteredClient(id="made", issuer=ISSUER, redirect=sent["redirect_uri"]),
        access_token="a-new-token",
        refresh_token="r-new",
        obtained_at=1_000.0,
        expires_at=1_060.0,
    )
    address = person.shown[0][0]
    assert sent["code_verifier"] not in address


async def test_each_login_has_a_state_and_a_verifier_of_its_own() -> None:
    first, second = Person(agree), Person(agree)
    await run(served(), first)
    await run(served(), second)
    for name in ("state", "code_challenge"):
        assert first.asked[name] != second.asked[name]
        assert len(first.asked[name]) >= 32


@pytest.mark.parametrize("methods", [None, [], ["plain"], ["s256"]])
async def test_a_server_without_pkce_is_refused_before_the_browser(methods: list[str] | None) -> None:
    person = Person()
    told = await refusal(served(code_challenge_methods_supported=methods), person)
    assert "does not say that it supports PKCE with S256" in told
    assert person.shown == []


async def test_a_redirect_with_another_state_changes_nothing() -> None:
    async def attacked(asked: dict[str, str]) -> None:
        for state in ("", "guess", asked["state"][:-1], asked["state"] + "x"):
            page = await visit(asked["redirect_uri"], code="evil", state=state, iss=ISSUER)
            assert page.startswith(b"HTTP/1.1 404")
        await agree(asked)

    _, seen = await run(served(), Person(attacked))
    assert form(seen[-1])["code"] == "the-code"


async def test_an_answer_of_another_issuer_gets_no_token() -> None:
    async def mixed_up(asked: dict[str, str]) -> None:
        await visit(asked["redirect_uri"], code="the-code", state=asked["state"], iss="http://127.0.0.1:9")

    person = Person(mixed_up)
    async with logging_in(served(), person) as (login, client):
        with pytest.raises(CredentialError, match="from another server than the one that was asked"):
            await login.run(device=False)
        assert TOKEN not in client.asked


async def test_an_answer_without_the_promised_issuer_gets_no_token() -> None:
    async def stripped(asked: dict[str, str]) -> None:
        await visit(asked["redirect_uri"], code="the-code", state=asked["state"])

    told = await refusal(served(authorization_response_iss_parameter_supported=True), Person(stripped))
    assert "has no `iss`" in told


async def test_a_refusal_in_the_browser_is_told() -> None:
    async def refuse(asked: dict[str, str]) -> None:
        await visit(
            asked["redirect_uri"], error="access_denied", state=asked["state"], error_description="No."
        )

    assert await refusal(served(), Person(refuse)) == "the authorization server refused: access_denied: No."


async def test_a_pasted_address_does_where_the_browser_is_elsewhere() -> None:
    def paste(asked: dict[str, str]) -> list[str]:
        end = f"{asked['redirect_uri']}?{urlencode({'code': 'the-code', 'state': asked['state']})}"
        return ["", "http://[", "https://somewhere.example/?code=evil", end]

    person = Person(paste=paste)
    made, _ = await run(served(), person)
    assert made.access_token == "a-new-token"
    assert person.shown[1:] == [("", "")] * 3


@pytest.mark.parametrize(
    "token",
    [
        (400, {"error": "invalid_grant", "error_description": "the-code is unknown"}),
        (200, {"token_type": "Bearer"}),
        (500, b""),
    ],
)
async def test_a_refused_code_is_told_without_it(token: Reply) -> None:
    assert TOKEN in await refusal(served(token), Person(agree))


async def test_nothing_is_sent_to_a_tool_server_without_encryption() -> None:
    person = Person()
    async with logging_in({}, person, url="http://tools.example/mcp") as (login, client):
        with pytest.raises(CredentialError, match="at https, or at http on this machine"):
            await login.run(device=False)
        assert client.asked == []
        assert repr(login) == "<Login at tools.example>"


async def test_nobody_at_the_browser_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_module, "LOGIN_S", 0.0)
    assert "nobody signed in within 0 minutes" in await refusal(served(), Person())


async def test_the_scope_is_what_is_needed_and_what_was_there() -> None:
    person = Person(agree)
    before = sign_in(scope="a b", wanted="c")
    made, _ = await run(
        served(scopes_supported=["offline_access"]),
        person,
        before=before,
        scope='d "no',
        auth=McpOAuth(scope="a"),
    )
    assert made.scope == "a b c d offline_access"
    assert (person.asked["scope"], person.asked["prompt"]) == (made.scope, "consent")


async def test_a_client_of_another_issuer_is_not_used_there() -> None:
    other = RegisteredClient(
        id="other", issuer="http://127.0.0.1:9", secret="s", redirect="http://127.0.0.1:9/callback"
    )
    made, seen = await run(served(), Person(agree), before=sign_in(client=other, scope="a"))
    assert (made.client.id, made.scope) == ("made", "")
    assert not any(b"other" in each.body for each in seen)


# By a code in a browser elsewhere.


def with_device(token: Page = GRANTED, code: Page = CODE) -> dict[str, Page]:
    return {**served(token, device_authorization_endpoint=DEVICE), DEVICE: code}


async def test_a_device_code_is_asked_for_until_it_is_entered() -> None:
    answers = iter([(400, {"error": "authorization_pending"})] * 3 + [GRANTED])
    person = Person()
    made, seen = await run(with_device(lambda _: next(answers)), person, device=True)
    assert person.shown == [(f"{ISSUER}/enter", "AB-CD")]
    assert made.access_token == "a-new-token"
    assert [form(each)["device_code"] for each in seen[-4:]] == ["the-device-code"] * 4


async def test_a_server_that_is_asked_too_often_is_asked_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    answers = iter([(400, {"error": "slow_down"}), (400, {"error": "authorization_pending"}), GRANTED])
    await run(with_device(lambda _: next(answers)), Person(), device=True)
    assert waited == [0.0, 5.0, 5.0]


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant", ""])
async def test_another_error_ends_a_device_login(error: str) -> None:
    told = await refusal(with_device((400, {"error": error})), Person(), device=True)
    assert f"{TOKEN} answered 400" in told


@pytest.mark.parametrize(
    "code",
    [
        (200, b"[" * 50_000),
        (200, {"device_code": "the-device-code"}),
        (400, {"error": "invalid_client", "error_description": "who"}),
        (200, {**CODE[1], "verification_uri": "http://idp.example/"}),
        (200, {**CODE[1], "verification_uri_complete": "javascript:alert(1)"}),
    ],
)
async def test_a_malformed_device_code_is_told(code: Reply) -> None:
    person = Person()
    assert "the device authorization endpoint" in await refusal(with_device(code=code), person, device=True)
    assert person.shown == []


async def test_a_code_that_nobody_entered_expires() -> None:
    expired = (200, {**CODE[1], "expires_in": 0})
    pending = (400, {"error": "authorization_pending"})
    told = await refusal(with_device(pending, expired), Person(), device=True)
    assert told == "nobody entered the code before it expired"


async def test_a_server_without_the_flow_is_told() -> None:
    assert "has no device flow" in await refusal(served(), Person(), device=True)
    assert "--device may do" in await refusal(served(authorization_endpoint=None), Person())
