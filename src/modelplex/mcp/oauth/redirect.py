"""The loopback address to which the browser comes back with the authorization code.

Listens on 127.0.0.1 alone, for one answer with the right `state`. Anything else that connects gets
an error page and changes nothing. Source: RFC 8252 7.3, RFC 6749 4.1.2, RFC 9207 2.4.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import parse_qs, urlsplit

from modelplex.credentials.source import CredentialError

PATH: Final = "/callback"
MAX_HEAD: Final = 65_536
"""Bytes of a request's head."""
READ_S: Final = 10.0
"""Seconds for one request."""
_PAGE: Final = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>Modelplex</title>
<body style="font-family: sans-serif; margin: 4em"><p>{}</p></body></html>
"""
DONE: Final = "The browser's part is done. You may close this page; the terminal has the result."
FOREIGN: Final = "This address waits for the answer to another sign-in."


class RedirectAnswer:
    """The parameters of the one authorization response. `state` is in the request and in it."""

    def __init__(self, issuer: str, *, iss_promised: bool) -> None:
        self.state = secrets.token_urlsafe(24)
        self._issuer = issuer
        self._iss_promised = iss_promised
        self._code: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<RedirectAnswer of {self._issuer} {'here' if self._code.done() else 'awaited'}>"

    def take(self, target: str) -> bool:
        """Take the query of an address; False if it is not the answer to this request."""
        try:
            query = urlsplit(target).query
        except ValueError:
            return False
        fields = {name: values[0] for name, values in parse_qs(query).items()}
        if not secrets.compare_digest(fields.get("state", "").encode(), self.state.encode()):
            return False
        if not self._code.done():
            try:
                self._code.set_result(self._code_in(fields))
            except CredentialError as error:
                self._code.set_exception(error)
        return True

    async def code(self) -> str:
        """Raises CredentialError."""
        return await self._code

    def _code_in(self, fields: dict[str, str]) -> str:
        iss = fields.get("iss")
        if iss is None and self._iss_promised:
            raise CredentialError(
                "the authorization response has no `iss`, which the server's metadata promises"
            )
        if iss is not None and iss != self._issuer:
            raise CredentialError(
                "the authorization response is from another server than the one that was asked"
            )
        if error := fields.get("error"):
            about = fields.get("error_description", "")
            raise CredentialError(
                f"the authorization server refused: {error[:100]}{f': {about[:200]}' if about else ''}"
            )
        if not fields.get("code"):
            raise CredentialError("the authorization response has no code")
        return fields["code"]


@asynccontextmanager
async def redirect_listener(port: int) -> AsyncGenerator[RedirectListener]:
    """Listen at a port of 127.0.0.1; 0 is any. Raises CredentialError."""
    listener = RedirectListener()
    try:
        server = await asyncio.start_server(listener.serve, "127.0.0.1", port, limit=MAX_HEAD)
    except OSError:
        raise CredentialError(
            f"port {port} of 127.0.0.1, for the way back from the browser, is in use"
        ) from None
    listener.uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"
    try:
        yield listener
    finally:
        server.close()


class RedirectListener:
    """`uri` is the redirect address. `answer` may be set later than it listens."""

    def __init__(self) -> None:
        self.uri = ""
        self.answer: RedirectAnswer | None = None

    def __repr__(self) -> str:
        return f"<RedirectListener {self.uri}>"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(READ_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, *_ = [*head.split(b"\r\n", 1)[0].decode("latin-1").split(" "), "", ""]
                taken = (
                    method == "GET"
                    and target.partition("?")[0] == PATH
                    and self.answer is not None
                    and self.answer.take(target)
                )
                writer.write(_response(taken=taken))
                await writer.drain()
        writer.close()


def _response(*, taken: bool) -> bytes:
    page = _PAGE.format(DONE if taken else FOREIGN).encode()
    status = "200 OK" if taken else "404 Not Found"
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {len(page)}\r\n"
        "cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + page
