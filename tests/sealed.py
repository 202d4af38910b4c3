"""A gateway with a provider of each dialect and sealed callers on its Unix socket.

A body is written in one of five dialects, goes to one of five dialects, and is compared as bytes. A
canary is a word that must not reach the provider.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from modelplex.http_client import Timeouts, parse_origin
from tests.gateways import WAIT_S, Running
from tests.gateways import Answer as Got
from tests.pairs import SPEAKERS, Answer, World, spoken, world
from tests.upstreams import Scripted, Seen

FORMS = ("chat", "responses", "messages", "gemini", "ollama")
DIALECTS = tuple(SPEAKERS)
CANARY = "canary-7c1f"
NO_RETRIES = "\n[failover]\nretries = 0\nbreaker_failures = 100000\n"
JSON = (b"content-type", b"application/json")
FUNCTION = {"type": "object", "properties": {"url": {"type": "string", "format": "uri"}}}

Headers = Sequence[tuple[bytes, bytes]]


def plain(form: str, model: str, **members: Any) -> dict[str, Any]:
    """A question in this form on which no rule fires."""
    said: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    match form:
        case "responses":
            said = {"model": model, "input": "Hi", "store": False}
        case "messages":
            said |= {"max_tokens": 9}
        case "gemini":
            said = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
        case "ollama":
            said |= {"stream": False}
        case _:
            pass
    return said | members


def path_of(form: str, model: str, *, stream: bool = False) -> str:
    match form:
        case "chat":
            return "/v1/chat/completions"
        case "gemini" if stream:
            return f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
        case "gemini":
            return f"/v1beta/models/{model}:generateContent"
        case "ollama":
            return "/api/chat"
        case _:
            return f"/v1/{form}"


def told(form: str, got: Got) -> tuple[str, str, str]:
    """An error as this form's clients read it: its message, its code, and the field at fault (""
    where the form has none). Fails where it has another shape.
    """
    body: dict[str, Any] = got.json
    error: Any = body["error"]
    match form:
        case "messages":
            assert set(body) == {"type", "error", "request_id"}, body
            details: dict[str, Any] = error.get("details", {})
            return error["message"], details.get("error_code", ""), details.get("param") or ""
        case "gemini":
            assert error["code"] == got.status
            reasons = [detail["reason"].lower() for detail in error.get("details", ()) if "reason" in detail]
            return error["message"], reasons[0] if reasons else "", ""
        case "ollama":
            assert set(body) == {"error"}, body
            return error, "", ""
        case _:
            assert set(error) == {"message", "type", "param", "code"}, body
            return error["message"], error["code"] or "", error["param"] or ""


def stripped(got: Got) -> dict[str, str]:
    """What x-modelplex-stripped says, by pointer."""
    text = got.headers.get("x-modelplex-stripped", "")
    return dict(cast("tuple[str, str]", tuple(each.rsplit("=", 1))) for each in text.split(",") if each)


@dataclass
class Sealed:
    """`ask` gives the answer, and the request as the provider of the dialect got it; None where it
    got none.
    """

    world: World

    @property
    def gw(self) -> Running:
        return self.world.gw

    @property
    def arrived(self) -> list[Seen]:
        return [seen for up in self.world.providers.values() for seen in up.seen]

    def forget(self) -> None:
        for up in self.world.providers.values():
            up.seen.clear()

    def answers(self, dialect: str, *, text: str = "Hello", stream: bool = False) -> None:
        self.world.providers[dialect].scripts[:] = [
            spoken(dialect, Answer(text=(text,)), stream=stream),
        ]

    async def send(
        self,
        form: str,
        dialect: str,
        body: Mapping[str, Any] | bytes,
        *,
        headers: Headers = (),
        query: str = "",
        unix: bool = True,
        stream: bool = False,
    ) -> tuple[Got, Seen | None]:
        self.forget()
        self.answers(dialect, stream=stream)
        target = path_of(form, f"m-{dialect}", stream=stream)
        if query:
            target += ("&" if "?" in target else "?") + query
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        got = await self.gw.ask("POST", target, data, headers=[JSON, *headers], unix=unix)
        seen = self.world.providers[dialect].seen
        return got, seen[-1] if seen else None

    async def ask(self, form: str, dialect: str, **members: Any) -> tuple[Got, Seen | None]:
        return await self.send(form, dialect, plain(form, f"m-{dialect}", **members))

    async def serves(self, form: str, dialect: str, **members: Any) -> tuple[Got, Seen]:
        got, seen = await self.ask(form, dialect, **members)
        assert got.status == 200, got.body
        assert seen is not None
        return got, seen

    async def refuses(self, form: str, dialect: str, **members: Any) -> tuple[str, str]:
        """The message and the field at fault, of a refusal by policy before anything was sent to
        anybody.
        """
        got, _ = await self.ask(form, dialect, **members)
        message, code, param = told(form, got)
        assert got.status == 400, got.body
        assert message.startswith("Refused by policy: "), message
        assert code == ("" if form == "ollama" else "policy_denied")
        assert self.arrived == []
        return message, param


@asynccontextmanager
async def sealed_world(
    folder: Path,
    *dialects: str,
    rules: str = NO_RETRIES,
    rows: Mapping[str, dict[str, Any]] = {},
) -> AsyncGenerator[Sealed]:
    """`rows` as of `world`."""
    async with world(folder, *(dialects or DIALECTS), rules=rules, rows=rows) as made:
        yield Sealed(made)


async def on_socket(
    gw: Running, socket: Path, target: str, body: Mapping[str, Any], *, headers: Headers = ()
) -> Got:
    """A POST over the socket of an agent."""
    origin, path = parse_origin(f"unix:{socket}")
    reply = await gw.client.send(
        origin,
        method=b"POST",
        target=(path + target).encode(),
        headers=[JSON, *headers],
        body=json.dumps(body).encode(),
        timeouts=Timeouts(connect=WAIT_S, first_byte=WAIT_S, idle=WAIT_S),
    )
    content = await reply.body(limit=10_000_000)
    return Got(reply.status, {n.decode(): v.decode() for n, v in reply.headers}, content)


def bytes_of(*ups: Scripted) -> bytes:
    """Everything that arrived there, heads and bodies."""
    return b"\0".join(seen.head + seen.body for up in ups for seen in up.seen)
