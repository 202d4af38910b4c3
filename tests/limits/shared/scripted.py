"""An engine for the tests of a gateway's side: real, with a clock of its own, or one that fails."""

from __future__ import annotations

from importlib.resources import files

from modelplex.limits.shared.engine import Engine
from modelplex.limits.shared.messages import NO_LIMIT, SharedAccount, SharedMessage, SharedReply
from modelplex.limits.shared.problems import EngineLost
from tests.limits.shared.redis_server import RedisServer

SCRIPT = files("modelplex.limits.shared").joinpath("step.lua").read_text()
NOON = 1_796_212_800.0
"""2026-12-02 12:00 UTC."""


def account(
    name: str,
    *,
    nano: int = NO_LIMIT,
    tokens: int = NO_LIMIT,
    period: str = "",
    concurrent: int = NO_LIMIT,
    requests: int = NO_LIMIT,
    per_minute: int = NO_LIMIT,
) -> SharedAccount:
    return SharedAccount(name, nano, tokens, period, concurrent, requests, per_minute)


class SetClock:
    """A real engine, whose clock says what the test says."""

    def __init__(self, redis: RedisServer) -> None:
        self.redis = redis
        self.set(NOON)

    def set(self, now: float) -> None:
        self.now = now
        self.redis.ask("SET", "clock", f"{now:.3f}")

    def forward(self, seconds: float) -> None:
        self.set(self.now + seconds)

    def engine(self) -> Engine:
        time = "{tonumber(redis.call('GET', 'clock')), 0}"
        script = SCRIPT.replace("redis.call('TIME')", time)
        assert script != SCRIPT
        return Engine(self.redis.url, script=script)


class FailingEngine:
    """Passes messages on until `failing` says otherwise: "before" the engine got it, or "after"."""

    place = "redis://failing"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.failing = ""
        self.sent: list[SharedMessage] = []

    async def tell(self, message: SharedMessage) -> SharedReply:
        self.sent.append(message)
        if self.failing == "before":
            raise EngineLost("it is a test")
        reply = await self.engine.tell(message)
        if self.failing == "after":
            raise EngineLost("it is a test")
        return reply

    async def close(self) -> None:
        await self.engine.close()
