"""Runs that a gateway serves by sockets of their own: who they are, what they may spend, what is
recorded, and what they are told.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tests.gateways import gateway, one
from tests.pipeline.test_replay import completion
from tests.processes import until
from tests.server.run_links import control
from tests.upstreams import answer, provider, stall

DEMO = '[[providers]]\nname = "mine"\ntype = "demo"\n'
AGENT = '[[agents]]\nname = "eval"\ntoken = "a-long-token"\nmodels = ["demo"]\nrate = { requests = 1 }\n'


async def test_a_run_is_its_agent_whatever_it_sends(tmp_path: Path) -> None:
    async with gateway(DEMO + AGENT, folder=tmp_path) as gw, control(gw) as runs:
        run = await runs.attach(agent="eval")
        assert run.link.reply is not None
        assert run.link.reply.refused == ""
        assert (await run.ask("demo-embed")).error["code"] == "model_not_found"
        assert (await run.ask("demo")).status == 200
        record = await gw.record(2)
        assert (record.agent, record.run) == ("eval", "run-1")
        assert (await run.ask("demo")).error["code"] == "agent_rate_limited"


async def test_an_agent_that_is_not_configured_is_refused(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw, control(gw) as runs:
        run = await runs.attach(agent="nobody")
        assert run.link.reply is not None
        assert run.link.reply.refused == 'the config has no agent "nobody" any more.'
        with pytest.raises(ConnectionRefusedError):
            await run.ask("demo")


async def test_a_run_is_recorded_with_its_tags_when_it_ends(tmp_path: Path) -> None:
    store = tmp_path / "records.sqlite"
    config = f'{DEMO}[record]\nstore = "{store}"\n'
    async with gateway(config, folder=tmp_path) as gw, control(gw) as runs:
        run = await runs.attach()
        off = await runs.attach(id="run-2", is_recorded=False)
        assert (await run.ask("demo")).status == (await off.ask("demo")).status == 200
        await off.leave()
        ended = (await run.leave()).ended
        assert ended is not None
        assert not ended.is_last
        with sqlite3.connect(store) as database:
            assert database.execute("SELECT run FROM calls").fetchall() == [("run-1",)]
            ((id_, kind, end),) = database.execute("SELECT id, kind, ended FROM runs").fetchall()
        assert (id_, kind) == ("run-1", "run")
        assert end is not None
        # Its socket is closed, and the gateway's own are not.
        with pytest.raises(ConnectionRefusedError):
            await run.ask("demo")
        assert (await gw.chat("demo")).status == 200
        assert (await gw.record(3)).run == ""


async def test_runs_of_an_agent_share_a_budget(tmp_path: Path) -> None:
    agent = AGENT.replace("rate = { requests = 1 }\n", "")
    async with gateway(DEMO + agent, folder=tmp_path) as gw, control(gw) as runs:
        first = await runs.attach(agent="eval", tokens=40)
        second = await runs.attach(id="run-2", agent="eval", tokens=40)
        free = await runs.attach(id="run-3", agent="eval")
        assert [(await first.ask("demo")).status for _ in range(2)] == [200, 200]
        refused = await second.ask("demo")
        assert (refused.status, refused.error["code"]) == (402, "run_budget_exceeded")
        assert (await free.ask("demo")).status == 200
        await first.leave()
        ended = (await second.leave()).ended
        assert ended is not None
        assert ended.tokens > 40


async def test_a_budget_in_dollars_needs_a_price(tmp_path: Path) -> None:
    async with gateway(one("http://127.0.0.1:9/v1"), folder=tmp_path) as gw, control(gw) as runs:
        run = await runs.attach(usd=5.0)
        refused = await run.ask("m")
        assert (refused.status, refused.error["code"]) == (402, "no_price_known")
        assert "this run has a budget in dollars (--budget)" in refused.error["message"]


async def test_the_run_is_told_of_a_failure_once(tmp_path: Path) -> None:
    wrong = answer({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, status=401)
    async with provider(wrong) as up, gateway(one(up.url), folder=tmp_path) as gw, control(gw) as runs:
        run = await runs.attach()
        await run.ask()
        (notice,) = (await run.said()).take_notices()
        assert notice.what == "up"
        assert "The provider answered 401: it rejected the API key" in notice.why
        await run.ask()
        await run.ask("unknown")
        (other,) = (await run.said()).take_notices()
        assert other.what == "unknown"


async def test_the_run_is_told_of_a_silent_provider(tmp_path: Path) -> None:
    async with provider(stall) as up, gateway(one(up.url), folder=tmp_path) as gw, control(gw) as runs:
        run = await runs.attach()
        asking = asyncio.create_task(run.ask())
        app = gw.process.app
        await until(lambda: any(call and call.attempt for call in app.running.values()), what="the attempt")
        (call,) = app.running.values()
        assert call is not None
        for after in (14.0, 16.0, 17.0, 31.0):
            gw.process.runs.tell_silent(call.started + after)
        await run.said()
        found = run.link.take_notices()
        assert [(notice.what, notice.why) for notice in found] == [
            ("m of up", "no output for 16 s"),
            ("m of up", "no output for 31 s"),
        ]
        asking.cancel()


async def test_a_config_that_a_program_may_change_is_not_loaded(tmp_path: Path) -> None:
    async with gateway(DEMO, folder=tmp_path) as gw, control(gw) as runs:
        run = await runs.attach(may_write_config=True)
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("mine", "theirs"))
        await run.leave()
        assert not gw.process.runs.may_write_config
        log = tmp_path / "log.json"
        await until(lambda: "is not loaded; SIGHUP loads it" in log.read_text(), what="the warning")
        assert "theirs" not in str((await gw.ask("GET", "/_internal/config")).json["providers"])
        await gw.process.reload()
        assert "theirs" in str((await gw.ask("GET", "/_internal/config")).json["providers"])


async def test_the_seed_of_a_run_is_set_recorded_and_reported(tmp_path: Path) -> None:
    """Where the provider takes one. A client's own stays; runs without one have their agent's."""
    agent = '[[agents]]\nname = "eval"\ntoken = "a-long-token"\nseed = 3\n'
    reply = answer(completion("Hello"))
    async with provider(reply) as up, provider(reply) as other:
        providers = one(up.url, type="together") + one(
            other.url, name="none", type="mistral", models='["n"]', api_key="k"
        )
        async with gateway(providers + agent, folder=tmp_path) as gw, control(gw) as runs:
            seeded = await runs.attach(seed=7)
            assert (await seeded.ask("m")).status == 200
            assert (await seeded.ask("n")).status == 200
            assert (await (await runs.attach(id="run-2", agent="eval")).ask("m")).status == 200
            assert (await (await runs.attach(id="run-3")).ask("m")).status == 200
            assert (await gw.chat("m", seed=5)).status == 200
            records = [await gw.record(number) for number in range(1, 6)]
    assert [seen.json.get("seed") for seen in up.seen] == [7, 3, None, 5]
    assert [seen.json.get("seed") for seen in other.seen] == [None]
    assert [[(change.op, change.path) for change in each.changes] for each in records] == [
        [("add", "seed")],
        [("drop", "seed")],
        [("add", "seed")],
        [],
        [],
    ]
    assert records[0].changes[0].reason == "the seed of the run or of the agent: 7"
