"""The connection to Redis or Valkey. Needs the extra `modelplex[shared]`, and is loaded where
`[shared]` is set.
"""

from __future__ import annotations

import contextlib
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

import msgspec

from modelplex.limits.shared.messages import SharedMessage, SharedReply, decode, encode
from modelplex.limits.shared.problems import EngineLost, SharedError

try:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
except ImportError as _error:
    raise SharedError(
        "[shared] needs the extra modelplex[shared]: pip install 'modelplex[shared]'."
    ) from _error

PREFIX: Final = "{modelplex}"
"""Of all keys. In braces, so that a cluster keeps them on one node."""
ANSWER_S: Final = 2.0
"""Seconds for a connection, and for a reply: far above what either takes, and still bearable for
an agent that waits.
"""


def place_of(url: str) -> str:
    """The address without user, password and options."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host or 'localhost'}:{parts.port or 6379}{parts.path if parts.path != '/' else ''}"


class Engine:
    """One connection, opened by the first message and after a loss."""

    def __init__(self, url: str, *, script: str | None = None) -> None:
        """Raises SharedError for an address that is none."""
        self.place = place_of(url)
        self._script = script or files("modelplex.limits.shared").joinpath("step.lua").read_text()
        self._sha = ""
        try:
            self._client: Redis = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
                url,
                socket_connect_timeout=ANSWER_S,
                socket_timeout=ANSWER_S,
                retry=Retry(NoBackoff(), 0),
                max_connections=1,
                protocol=2,
            )
        except (ValueError, RedisError):
            # The text would quote the address.
            raise SharedError("[shared] url is no address of Redis or Valkey.") from None

    def __repr__(self) -> str:
        return f"<Engine {self.place}>"

    async def tell(self, message: SharedMessage) -> SharedReply:
        """Send a message. Raises EngineLost where there is no reply, or no valid one; then the
        message may have been taken or not.
        """
        try:
            if not self._sha:
                self._sha = str(await self._client.script_load(self._script))
            try:
                answer = await self._client.evalsha(self._sha, 1, PREFIX, encode(message))
            except NoScriptError:
                self._sha = str(await self._client.script_load(self._script))
                answer = await self._client.evalsha(self._sha, 1, PREFIX, encode(message))
            return decode(answer)
        except (RedisError, OSError, msgspec.DecodeError) as error:
            await self.reset()
            raise EngineLost(_reason(error)) from None

    async def reset(self) -> None:
        """Close the connection: what is still on it is not read."""
        self._sha = ""
        with contextlib.suppress(RedisError, OSError):
            await self._client.connection_pool.disconnect()

    async def close(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()


def _reason(error: Exception) -> str:
    """A short reason without credentials: of what the engine says, its first word."""
    text = str(error)
    if isinstance(error, msgspec.DecodeError):
        return "the reply is not valid"
    word = text.split(" ", 1)[0]
    if word.isupper() and word.isalpha():
        return word
    return type(error).__name__
