"""What a gateway and the engine tell each other, as JSON. `step.lua` reads and writes the same.

Money is in integers of 1e-9 US dollars, times in milliseconds. Imports no engine.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeVar

import msgspec

from modelplex.config.settings import AgentConfig
from modelplex.limits.agent_usage import AgentUsage

NANO: Final = 1_000_000_000
"""Of the units in which money is counted, in a US dollar."""
PERIODS: Final = {"day": "d", "month": "m", "total": ""}
NO_LIMIT: Final = -1


class SharedAccount(msgspec.Struct, frozen=True, array_like=True):
    """An agent or a team with its limits; NO_LIMIT where there is none."""

    name: str
    nano: int
    tokens: int
    period: str
    concurrent: int
    rate_requests: int
    rate_tokens: int


class SharedEnd(msgspec.Struct, frozen=True, array_like=True):
    """A request that has ended, and what it used; 0 requests: it counts nowhere. `has_rate`:
    the tokens of its agent are counted by the minute.
    """

    id: str
    names: tuple[str, ...]
    requests: int = 0
    tokens: int = 0
    nano: int = 0
    has_rate: bool = False


class SharedMessage(msgspec.Struct, kw_only=True):
    """One message. The engine ignores one whose `seq` is not above the last one's, and `ends`
    whose `ends_seq` is not.

    lease    ms without a message after which this gateway's requests are ended
    first    registers the gateway: `live` is all that it runs
    leave    the gateway ends
    seen     accounts as they were last seen: name, day, FIELDS[:9]
    reserve  requests: id, accounts
    hold     accounts, and how many requests of the first are to be reserved in advance
    read     accounts to tell about
    """

    node: str
    seq: int
    lease: int
    first: bool = False
    leave: bool = False
    ends_seq: int = 0
    ends: tuple[SharedEnd, ...] = ()
    live: tuple[tuple[str, tuple[str, ...]], ...] = ()
    seen: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    reserve: tuple[tuple[str, tuple[SharedAccount, ...]], ...] = ()
    hold: tuple[tuple[tuple[SharedAccount, ...], int], ...] = ()
    read: tuple[str, ...] = ()


class SharedReply(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's. `state` is "unknown" for a gateway that has to register again; then, and for an
    old message, nothing was done. An empty list may come as an empty object.
    """

    state: Literal["ok", "old", "unknown"]
    now: str = "0"
    nodes: int = 0
    reserve: list[list[str]] | dict[str, object] = []
    held: list[int] | dict[str, object] = []
    totals: list[tuple[str, str, list[str]]] | dict[str, object] = []


class SharedTotals(msgspec.Struct, frozen=True):
    """What an account used until `day`, on that day, in its month, and in all, and how many of its
    requests run over all gateways. `values` as the engine has them.
    """

    day: str
    values: tuple[int, ...]
    running: int = 0

    def spent(self, per: str) -> AgentUsage:
        at = ("day", "month", "total").index(per) * 3
        requests, tokens, nano = self.values[at : at + 3]
        return AgentUsage(requests, tokens, nano / NANO)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SharedReply)


def encode(message: SharedMessage) -> bytes:
    return _encoder.encode(message)


def decode(reply: bytes) -> SharedReply:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(reply)


T = TypeVar("T")


def rows(found: list[T] | dict[str, object]) -> list[T]:
    """A list of a reply, which is an object where it is empty."""
    return found if isinstance(found, list) else []


def totals_of(reply: SharedReply) -> dict[str, SharedTotals]:
    """Raises ValueError."""
    return {
        name: SharedTotals(day, tuple(map(int, values[:9])), int(values[9]))
        for name, day, values in rows(reply.totals)
    }


def account_of(agent: AgentConfig) -> SharedAccount:
    budget, rate = agent.budget, agent.rate
    return SharedAccount(
        agent.name,
        NO_LIMIT if budget.usd is None else math.ceil(budget.usd * NANO),
        _limit(budget.tokens),
        PERIODS[budget.per],
        _limit(agent.concurrent),
        _limit(rate.requests),
        _limit(rate.tokens),
    )


def _limit(value: int | None) -> int:
    return NO_LIMIT if value is None else value
