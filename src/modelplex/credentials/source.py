"""One value that expires: fetched once for all who wait, and again before it is needed.

A fetch is a task of its own. A caller who goes away ends no fetch, and one who waits gets what it
brings. While a value holds, nobody waits: it is fetched anew in the background from `AHEAD` before
its end. A fetch that fails is tried again after `RETRY_S`, and the value that is there is used
until its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import time
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

AHEAD_S = 300.0
"""Seconds before its end at which a value is fetched anew; a fifth of its life where that is
shorter.
"""
RETRY_S = 1.0
"""Seconds from a failed fetch to the next one."""
FETCH_TIMEOUT_S = 60.0
"""Seconds for one fetch, with all its requests: a person may have to touch a key."""


class CredentialError(Exception):
    """No credential could be had. The sentence names the place and the reason, never the value."""


class CredentialRefused(CredentialError):
    """A service refused to give one. `code` is its error code (RFC 6749 5.2), "" without one."""

    def __init__(self, sentence: str, *, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


class Expiring(msgspec.Struct, Generic[T], frozen=True):
    """A value, and until when it holds, in Unix seconds; None is for ever."""

    value: T
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"<Expiring until {self.expires_at}>"


class Refreshed(Generic[T]):
    """The present value of what `fetch` brings. `fetch` raises CredentialError."""

    def __init__(
        self, fetch: Callable[[], Awaitable[Expiring[T]]], *, clock: Callable[[], float] = time
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._held: Expiring[T] | None = None
        self._renew_at = 0.0
        self._task: asyncio.Task[Expiring[T]] | None = None
        self._failure: CredentialError | None = None
        self._retry_at = 0.0
        self.values: tuple[T, ...] = ()
        """The last two values that were fetched: a provider may repeat one in an error."""

    def __repr__(self) -> str:
        return f"<Refreshed {self._held!r}>"

    def now(self) -> T | None:
        """The value, if it holds; a new one is fetched in the background where that is due."""
        held = self._held
        if held is None:
            return None
        now = self._clock()
        if held.expires_at is None:
            return held.value
        if now >= held.expires_at:
            return None
        if now >= self._renew_at and self._task is None and now >= self._retry_at:
            self._start()
        return held.value

    async def get(self) -> T:
        """The value, fetched where none holds. Raises CredentialError."""
        value = self.now()
        if value is not None:
            return value
        if self._task is None:
            if self._failure is not None and self._clock() < self._retry_at:
                raise CredentialError(str(self._failure))
            self._start()
        task = self._task
        assert task is not None
        return (await asyncio.shield(task)).value

    async def renewed(self, refused: T) -> T | None:
        """Another value in place of one that was refused; None if there is none. Where several were
        refused at once, one fetch serves them.
        """
        held = self._held
        if held is not None and held.value == refused:
            self._held = None
        try:
            value = await self.get()
        except CredentialError:
            return None
        return None if value == refused else value

    def _start(self) -> None:
        task = self._task = asyncio.get_running_loop().create_task(self._run())
        task.add_done_callback(_take_exception)

    async def _run(self) -> Expiring[T]:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                fetched = await self._fetch()
        except TimeoutError:
            raise self._failed(CredentialError(f"no answer within {FETCH_TIMEOUT_S:.0f} seconds")) from None
        except CredentialError as error:
            raise self._failed(error) from None
        finally:
            self._task = None
        now = self._clock()
        self._held, self._failure = fetched, None
        if fetched.value not in self.values:
            self.values = (*self.values[-1:], fetched.value)
        if fetched.expires_at is not None:
            life = fetched.expires_at - now
            self._renew_at = fetched.expires_at - min(AHEAD_S, life / 5)
        return fetched

    def _failed(self, error: CredentialError) -> CredentialError:
        self._failure = error
        self._retry_at = self._clock() + RETRY_S
        return error


def _take_exception(task: asyncio.Task[Expiring[T]]) -> None:
    """Of a fetch for which nobody waits any more."""
    if not task.cancelled():
        task.exception()
