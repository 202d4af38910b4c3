"""Runs that a gateway serves by sockets of their own: who they are, what they may spend, what is
recorded, and what they are told.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from modelplex.records.store.database import open_database
from modelplex.records.store.queries import calls_of_run, recent_acts
from tests.gateways import WAIT_S, gateway, one
from tests.pipeline.test_replay import completion
from tests.processes import CHAT, chat, connect, exchange, read_response, request, until
from tests.server import tools
from tests.server.run_links import control
from tests.upstreams import answer, chat_answer, chat_stream, provider, stall, stream

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


async def test_a_stopped_run_gets_no_more_and_others_go_on(tmp_path: Path) -> None:
    store = tmp_path / "records.sqlite"
    config = f'[record]\nstore = "{store}"\n'
    acts = [
        stream(*chat_stream("first")[:-1], then=stall),
        stall,
        stream(*chat_stream("first")[:-1], then=stall),
    ]
    async with provider(*acts, *[answer(chat_answer())] * 9) as up:
        async with gateway(one(up.url) + config, folder=tmp_path) as gw, control(gw) as runs:
            run, other, hidden = (
                await runs.attach(),
                await runs.attach(id="run-2"),
                await runs.attach(id="run-3", is_recorded=False),
            )
            reader, writer = await connect(run.path)
            writer.write(request("POST", CHAT, chat(stream=True), close=False))
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b'"first"')
            waiting = asyncio.create_task(run.ask())
            await until(lambda: len(up.seen) == 2, what="the call that waits")
            others, others_writer = await connect(other.path)
            others_writer.write(request("POST", CHAT, chat(stream=True)))
            async with asyncio.timeout(WAIT_S):
                await others.readuntil(b'"first"')

            async def stop(id: str) -> object:
                headers = [(b"authorization", f"Bearer {gw.process.page.token()}".encode())]
                return (await gw.ask("POST", "/_internal/page/api/stop", {"run": id}, headers=headers)).json

            assert await stop("run-1") == {"stopped": 2, "refused": True}
            async with asyncio.timeout(WAIT_S):
                assert b"stopped_by_operator" in await reader.readuntil(b"stopped_by_operator")
            ended = await waiting
            assert (ended.status, ended.error["code"]) == (403, "stopped_by_operator")
            writer.close()
            refused = await run.ask()
            assert (refused.status, refused.error["code"]) == (403, "stopped_by_operator")
            assert "the operator stopped this run" in refused.error["message"]
            assert len(up.seen) == 3
            assert (await other.ask()).status == 200
            assert (await gw.chat("m")).status == 200
            (notice,) = [each for each in (await run.said()).take_notices() if each.what == "the run"]
            assert "its requests are refused from now on" in notice.why
            assert await stop("run-9") == {"stopped": 0}
            assert await stop("run-3") == {"stopped": 0, "refused": True}
            assert (await hidden.ask()).status == 403
            others_writer.close()
            await run.leave()
            # A run that comes later with the same id is another one.
            Path(run.path).unlink()
            assert (await (await runs.attach()).ask()).status == 200
    database = open_database(store, read_only=True)
    last, none, act = recent_acts(database)
    assert (act.target, act.runs, act.detail) == ("run run-1", ("run-1",), {"stopped": 2, "refused": True})
    assert [each.id for each in recent_acts(database, run="run-1")] == [act.id]
    assert (none.target, none.runs) == ("run run-9", ())
    assert (last.target, last.runs) == ("run", ())  # it may leave no trace
    codes = [call.code for call in calls_of_run(database, "run-1")]
    assert codes == ["stopped_by_operator"] * 3 + [None]
    database.close()


async def test_a_connection_on_which_calls_are_decided_already_is_refused_too(tmp_path: Path) -> None:
    async with provider(*[answer(chat_answer())] * 9) as up:
        async with gateway(one(up.url), folder=tmp_path) as gw, control(gw) as runs:
            run = await runs.attach()
            reader, writer = await connect(run.path)
            statuses: list[bytes] = []
            for number in range(6):
                if number == 4:
                    assert gw.process.runs.stop("run-1")
                writer.write(request("POST", CHAT, chat(), close=False))
                async with asyncio.timeout(WAIT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                    await reader.readexactly(length)
                statuses.append(head[9:12])
            writer.close()
        assert statuses == [b"200"] * 4 + [b"403"] * 2
        assert len(up.seen) == 4


async def test_a_tool_call_of_a_stopped_run_ends_too(tmp_path: Path) -> None:
    began = tmp_path / "began"
    text = tools.enabled(tmp_path)
    script = tmp_path / "server.py"
    silent = f'if message["method"] == "tools/call":\n        open({str(began)!r}, "w").close()\n        continue\n    answer ='
    script.write_text(tools.SERVER.replace("answer =", silent, 1))
    async with gateway(DEMO + text, folder=tmp_path) as gw, control(gw) as runs:
        run = await runs.attach()
        path = "/mcp/v1/tools/one__echo/call"
        calling = asyncio.create_task(exchange(run.path, request("POST", path, b"{}")))
        await until(began.exists, what="the call of the tool")
        headers = [(b"authorization", f"Bearer {gw.process.page.token()}".encode())]
        stopped = await gw.ask("POST", "/_internal/page/api/stop", {"run": "run-1"}, headers=headers)
        assert stopped.json == {"stopped": 1, "refused": True}
        ended = read_response(await calling)
        assert ended.status == 403
        assert b"the operator stopped this request" in ended.body
        refused = read_response(await exchange(run.path, request("POST", path, b"{}")))
        assert refused.status == 403
        assert b"the operator stopped this run" in refused.body
