"""Several real gateways and a real Redis: what agents and teams may use holds over all of them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from time import time
from typing import Any

import pytest

from modelplex.server import process as process_module
from tests.gateways import Answer, Running, gateway
from tests.limits.shared.redis_server import PASSWORD, RedisServer, kept_redis, redis
from tests.processes import chat as chat_body
from tests.processes import connect, request, served
from tests.upstreams import Act, answer, chat_answer, chunk, provider, stall, stream

__all__ = ["kept_redis", "redis"]

TOKEN = "token-of-coder"


def config(url: str, limits: str, *, upstream: str = "", shared: str = "") -> str:
    provider = 'type = "demo"\nmodels = ["m"]'
    if upstream:
        provider = f'name = "up"\ntype = "openai"\nbase_url = "{upstream}"\nmodels = ["m"]'
    return (
        f'[[providers]]\n{provider}\n[shared]\nurl = "{url}"\nlease = 1\n{shared}\n'
        f'[[agents]]\nname = "coder"\ntoken = "{TOKEN}"\n{limits}\n'
    )


@asynccontextmanager
async def gateways(count: int, text: str, folder: Path) -> AsyncGenerator[list[Running]]:
    async with AsyncExitStack() as stack:
        found: list[Running] = []
        for number in range(count):
            place = folder / str(number)
            place.mkdir()
            found.append(await stack.enter_async_context(gateway(text, folder=place)))
        yield found


async def ask(at: Running, *, token: str = TOKEN) -> Answer:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    headers = ((b"content-type", b"application/json"), (b"authorization", f"Bearer {token}".encode()))
    return await at.ask("POST", "/models/v1/chat/completions", body, headers=headers)


async def shared_status(at: Running) -> dict[str, Any]:
    found: dict[str, Any] = (await at.ask("GET", "/_internal/status")).json["shared"]
    return found


async def all_told(found: list[Running]) -> None:
    async with asyncio.timeout(20):
        for at in found:
            while (await shared_status(at))["not_told"]:
                await asyncio.sleep(0.01)


async def test_a_rate_holds_over_two_gateways(redis: RedisServer, tmp_path: Path) -> None:
    async with gateways(2, config(redis.url, "rate = { requests = 5 }"), tmp_path) as found:
        answers = [await ask(found[number % 2]) for number in range(7)]
        assert [each.status for each in answers] == [200] * 5 + [429] * 2
        assert answers[-1].error["code"] == "agent_rate_limited"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 61
        status = await shared_status(found[0])
        assert (status["state"], status["nodes"], status["requests"]["reserved"]) == ("connected", 2, 3)
        text = (await found[1].ask("GET", "/_internal/metrics")).body.decode()
        assert 'modelplex_shared_limits_requests_total{outcome="refused"} 1.0' in text
        assert "modelplex_shared_limits_away 0.0" in text


async def test_a_budget_holds_over_two_gateways_and_both_show_what_was_spent(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with gateways(2, config(redis.url, "budget = { tokens = 60 }"), tmp_path) as found:
        for at in (found[0], found[1], found[0]):
            assert (await ask(at)).status == 200
            await all_told(found)
        refused = await ask(found[1])
        assert (refused.status, refused.error["code"]) == (402, "agent_budget_exceeded")
        agent = (await found[1].ask("GET", "/_internal/agents")).json["agents"][0]
        assert agent["spent"]["requests"] == 3
        for folder in (tmp_path / "0", tmp_path / "1"):
            assert not list(folder.rglob("agents.sqlite"))


async def test_a_teams_budget_holds_over_two_gateways(redis: RedisServer, tmp_path: Path) -> None:
    text = config(redis.url, 'team = "t"') + (
        '[[agents]]\nname = "other"\ntoken = "token-of-other"\nteam = "t"\n'
        '[[teams]]\nname = "t"\nbudget = { tokens = 30 }\n'
    )
    async with gateways(2, text, tmp_path) as found:
        assert (await ask(found[0])).status == 200
        await all_told(found)
        assert (await ask(found[1], token="token-of-other")).status == 200
        await all_told(found)
        refused = await ask(found[0])
        assert refused.status == 402
        assert "the team 't'" in refused.error["message"]


async def test_the_secret_is_shown_nowhere(redis: RedisServer, tmp_path: Path) -> None:
    async with gateways(1, config(redis.url, "concurrent = 5"), tmp_path) as (at,):
        assert (await ask(at)).status == 200
        redis.kill()
        await until_away(at)
        for view in ("status", "config", "agents", "metrics"):
            assert PASSWORD not in (await at.ask("GET", f"/_internal/{view}")).body.decode()
    log = (tmp_path / "0" / "log.json").read_text()
    assert PASSWORD not in log
    assert f"the engine of the shared limits, redis://127.0.0.1:{redis.port}/0, does not answer" in log


async def until_away(at: Running, *, state: str = "away") -> None:
    async with asyncio.timeout(20):
        while (await shared_status(at))["state"] != state:
            await asyncio.sleep(0.01)


async def test_an_engine_that_is_killed_and_started_again(kept_redis: RedisServer, tmp_path: Path) -> None:
    text = config(kept_redis.url, "budget = { tokens = 1000000 }") + (
        '[[agents]]\nname = "free"\ntoken = "token-of-free"\n'
    )
    async with gateways(2, text, tmp_path) as found:
        for number in range(6):
            assert (await ask(found[number % 2])).status == 200
        kept_redis.kill()
        for at in found:
            await until_away(at)
        # What is reserved in advance lasts a lease, of one second.
        answers = [await ask(found[0]) for _ in range(10)]
        refused = answers[-1]
        assert (refused.status, refused.error["code"]) == (503, "shared_limits_unavailable")
        assert (await ask(found[0], token="token-of-free")).status == 200
        text = (await found[0].ask("GET", "/_internal/metrics")).body.decode()
        assert "modelplex_shared_limits_away 1.0" in text
        kept_redis.start()
        for at in found:
            await until_away(at, state="connected")
        assert (await ask(found[0])).status == 200
        await all_told(found)
        served = sum(each.status == 200 for each in answers)
        assert (await ask(found[1])).status == 200
        agent = (await found[1].ask("GET", "/_internal/agents")).json["agents"][0]
        assert agent["spent"]["requests"] in {7 + served, 8 + served}  # its own may be on its way
    lines = [json.loads(row) for row in (tmp_path / "0" / "log.json").read_text().splitlines()]
    about = [row["event"] for row in lines if "shared limits" in row["event"]]
    assert ["does not answer" in row for row in about] == [True, False]


async def test_an_engine_that_lost_its_data_gets_what_the_gateways_saw(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with gateways(2, config(redis.url, "budget = { tokens = 40 }"), tmp_path) as found:
        assert (await ask(found[0])).status == 200
        await all_told(found)
        assert (await ask(found[1])).status == 200
        await all_told(found)
        assert (await ask(found[0])).status == 402
        redis.kill()
        for at in found:
            await until_away(at)
        redis.start()
        for at in found:
            await until_away(at, state="connected")
        assert (await ask(found[0])).status == 402
        assert (await ask(found[1])).status == 402


async def test_open_serves_within_the_limits_of_this_gateway(redis: RedisServer, tmp_path: Path) -> None:
    text = config(redis.url, "rate = { requests = 3 }", shared='on_loss = "open"')
    async with gateways(2, text, tmp_path) as found:
        assert (await ask(found[0])).status == 200
        redis.kill()
        for at in found:
            await until_away(at)
        assert [(await ask(found[0])).status for _ in range(3)] == [200, 200, 429]
        assert [(await ask(found[1])).status for _ in range(4)] == [200, 200, 200, 429]
        assert (await shared_status(found[1]))["requests"]["open"] == 4


class Proxy:
    """Between one gateway and the engine: may stop passing bytes on, without a word."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.passes = asyncio.Event()
        self.passes.set()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(ConnectionError, asyncio.CancelledError):
            other, to_engine = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(self._pipe(reader, to_engine), self._pipe(other, writer))
        writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            await self.passes.wait()
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxy(port: int) -> AsyncGenerator[Proxy]:
    found = Proxy(port)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await found.close()


async def test_a_gateway_that_is_cut_off_refuses_while_the_other_serves(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with proxy(redis.port) as between, AsyncExitStack() as stack:
        limits = "concurrent = 5\nbudget = { tokens = 1000000 }"
        through = redis.url.replace(f":{redis.port}/", f":{between.port}/")
        found: list[Running] = []
        for number, url in enumerate((through, redis.url)):
            (tmp_path / str(number)).mkdir()
            place = tmp_path / str(number)
            found.append(await stack.enter_async_context(gateway(config(url, limits), folder=place)))
        cut, other = found
        assert (await ask(cut)).status == 200
        between.passes.clear()
        refused = await ask(cut)
        assert (refused.status, refused.error["code"]) == (503, "shared_limits_unavailable")
        assert (await ask(other)).status == 200
        between.passes.set()
        await until_away(cut, state="connected")
        assert (await ask(cut)).status == 200
        await all_told(found)
        assert (await ask(other)).status == 200
        agent = (await other.ask("GET", "/_internal/agents")).json["agents"][0]
        assert agent["spent"]["requests"] in {3, 4}


async def test_the_clock_of_a_gateway_does_not_matter(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of a day, and a gateway for which it is tomorrow."""
    text = config(redis.url, 'rate = { requests = 3 }\nbudget = { tokens = 40, per = "day" }')
    async with AsyncExitStack() as stack:
        found: list[Running] = []
        for number, ahead in enumerate((0.0, 3600.0, 86_400.0, -86_400.0)):
            monkeypatch.setattr(process_module, "time", lambda ahead=ahead: time() + ahead)
            (tmp_path / str(number)).mkdir()
            place = tmp_path / str(number)
            found.append(await stack.enter_async_context(gateway(text, folder=place)))
        for at in found[:2]:
            assert (await ask(at)).status == 200
            await all_told(found)
        for at in found:
            assert (await ask(at)).status == 402
            agent = (await at.ask("GET", "/_internal/agents")).json["agents"][0]
            assert agent["spent"]["requests"] == 2


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "a", tmp_path / "b"]
    for each in found:
        each.mkdir()
    return found


async def test_a_gateway_that_is_killed_in_mid_stream_gives_its_requests_back(
    redis: RedisServer, folders: list[Path]
) -> None:
    """Real processes, confined as by default."""
    stalled = stream(chunk({"role": "assistant", "content": "Once"}), then=stall)
    async with provider(stalled, answer(chat_answer())) as upstream, AsyncExitStack() as stack:
        text = config(redis.url, "concurrent = 1", upstream=upstream.url)
        first, second = [
            await stack.enter_async_context(served(text, "--config", "config.toml", folder=each))
            for each in folders
        ]
        token = [f"authorization: Bearer {TOKEN}"]
        reader, writer = await connect(first.address)
        path = "/models/v1/chat/completions"
        writer.write(request("POST", path, chat_body("m", stream=True), headers=token))
        async with asyncio.timeout(20):
            await reader.readuntil(b"Once")
        refused = await second.ask("POST", path, chat_body("m"), headers=token)
        assert (refused.status, refused.error["code"]) == (429, "agent_concurrency_limited")
        status = (await second.ask("GET", "/_internal/status")).json
        assert status["shared"]["state"] == "connected"
        assert status["confinement"]["system_calls"]
        first.signal(signal.SIGKILL)
        await first.exit()
        writer.close()
        async with asyncio.timeout(20):
            while (await second.ask("POST", path, chat_body("m"), headers=token)).status != 200:
                await asyncio.sleep(0.05)


async def test_spending_exceeds_a_budget_by_no_more_than_was_in_flight(
    redis: RedisServer, tmp_path: Path
) -> None:
    """Four gateways, and agents that ask as fast as they can until the budget is used up."""
    running = most = billed = 0
    whole = answer(chat_answer())

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal running, most, billed
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        billed += 5
        running -= 1
        await whole(reader, writer)

    act: Act = slow
    async with provider(act) as upstream:
        text = config(redis.url, "budget = { tokens = 500 }\nconcurrent = 8", upstream=upstream.url)
        async with gateways(4, text, tmp_path) as found:

            async def caller(at: Running) -> list[int]:
                statuses: list[int] = []
                while 402 not in statuses:
                    statuses.append((await ask(at)).status)
                return statuses

            async with asyncio.timeout(40):
                each = await asyncio.gather(*(caller(at) for at in found for _ in range(4)))
            assert {status for statuses in each for status in statuses} <= {200, 402, 429}
            assert most <= 8
            assert 500 <= billed <= 500 + 5 * most
            await all_told(found)
            await ask(found[0])
            agent = (await found[0].ask("GET", "/_internal/agents")).json["agents"][0]
            assert agent["spent"]["tokens"] == billed


def test_nothing_is_imported_for_a_gateway_alone() -> None:
    program = (
        "import sys; from modelplex.server import process; "
        "print([name for name in sys.modules if name.startswith(('redis', 'modelplex.limits.shared'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
