import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from modelplex.config.secret import Secret
from modelplex.mcp.constants import LEGACY_VERSIONS, Json, McpReply, Unavailable
from modelplex.mcp.server_output import LAST_LENGTH, SHOWN

from .conftest import Start, running, text_of, until


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
async def test_each_legacy_version_is_negotiated_and_relayed(start: Start, version: str) -> None:
    scripted = start(version=version)
    catalog = await scripted.server.lists()
    assert (catalog.era, catalog.version) == ("legacy", version)
    assert catalog.tools[0]["x-vendor"] == 1
    reply = await scripted.call("echo", {"a": "ü"})
    assert json.loads(text_of(reply)) == {"a": "ü"}
    assert reply.result is not None
    assert reply.result["_meta"] == {"kept": True}


async def test_a_modern_server_gets_an_envelope_and_no_handshake(start: Start) -> None:
    scripted = start(era="modern")
    catalog = await scripted.server.lists()
    assert (catalog.era, catalog.version, catalog.instructions) == ("modern", "2026-07-28", "do")
    assert catalog.info == {"name": "scripted", "version": "1"}
    params: Json = {"name": "meta", "arguments": {}, "_meta": {"vendor/x": 1}}
    reply = await scripted.server.request(
        "tools/call", params, capabilities={"elicitation": {}}, log_level="info"
    )
    meta = json.loads(text_of(reply))
    assert meta["vendor/x"] == 1
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {"elicitation": {}}
    assert meta["io.modelcontextprotocol/clientInfo"]["name"] == "modelplex"
    assert meta["io.modelcontextprotocol/logLevel"] == "info"
    assert params["_meta"] == {"vendor/x": 1}
    assert not scripted.lines("initialize")


@pytest.mark.parametrize("code", [-32601, -32602, -32600, -32603, 0])
async def test_any_other_answer_to_the_probe_means_legacy_and_the_process_stays(
    start: Start, code: int
) -> None:
    scripted = start(probe=f"error:{code}")
    assert (await scripted.server.lists()).era == "legacy"
    assert len(scripted.lines("start")) == 1


async def test_a_server_that_dies_of_the_probe_runs_soon_and_is_not_probed_again(start: Start) -> None:
    scripted = start(probe="die", cache=True)
    began = time.monotonic()
    assert (await scripted.server.lists()).era == "legacy"
    assert time.monotonic() - began < 6
    assert len(scripted.lines("server/discover")) == 1
    await scripted.close()
    again = start(probe="die", cache=True)
    await again.call("echo")
    assert len(again.lines("server/discover")) == 1


async def test_a_server_is_taken_for_an_older_one_for_good_only_after_it_missed_the_probe_twice(
    start: Start,
) -> None:
    probes: list[int] = []
    for _ in range(3):
        scripted = start(probe="hang", limits={"probe_timeout": 0.2}, cache=True)
        await scripted.server.lists(fresh=True)
        assert scripted.server.status().era == "legacy"
        probes.append(len(scripted.lines("server/discover")))
        await scripted.close()
    assert probes == [1, 2, 2]


async def test_that_a_server_was_slow_is_remembered_until_it_tells_its_lists(start: Start) -> None:
    first = start(cache=True)
    await first.server.load()
    first.server.set_late()
    await first.server.close()
    second = start(cache=True)
    assert await second.server.load() is None
    assert second.server.late
    await second.server.lists()
    assert not second.server.late
    await second.server.close()
    third = start(cache=True)
    assert await third.server.load() is not None
    assert not third.server.late
    assert not list((third.journal.parent / "mcp").glob("*.late"))


async def test_a_server_that_does_not_answer_the_probe_is_started_anew_without_it(start: Start) -> None:
    scripted = start(probe="hang", limits={"probe_timeout": 0.2})
    assert (await scripted.server.lists()).era == "legacy"
    assert len(scripted.lines("start")) == 2


async def test_a_modern_server_that_was_only_slow_is_recognised_by_its_refusal(start: Start) -> None:
    scripted = start(era="modern", start="slow:0.6", limits={"probe_timeout": 0.3})
    assert (await scripted.server.lists()).era == "modern"
    assert len(scripted.lines("initialize")) == 1


async def test_a_remembered_era_that_is_wrong_is_dropped(start: Start) -> None:
    from modelplex.mcp.servers import ServerEra

    scripted = start(era="legacy")
    scripted.server.server_catalog.known_era = ServerEra("modern", "2026-07-28")
    assert (await scripted.server.lists()).era == "legacy"
    assert scripted.server.server_catalog.known_era == ServerEra("legacy", "2025-11-25")
    modern = start(era="modern")
    modern.server.server_catalog.known_era = ServerEra("legacy", "2025-11-25")
    assert (await modern.server.lists()).era == "modern"


async def test_fifty_first_calls_start_one_process(start: Start) -> None:
    scripted = start(limits={"max_server_in_flight": 64})
    replies = await asyncio.gather(*(scripted.call("echo", {"n": n}) for n in range(50)))
    assert [json.loads(text_of(reply))["n"] for reply in replies] == list(range(50))
    assert len(scripted.lines("start")) == 1


async def test_a_server_killed_in_mid_call_fails_it_at_once_and_the_next_call_works(start: Start) -> None:
    scripted = start()
    await scripted.call("echo")
    hanging = [asyncio.ensure_future(scripted.call("hang")) for _ in range(3)]
    await until(lambda: len(scripted.lines("tools/call")) == 4)
    began = time.monotonic()
    os.kill(scripted.server.status().pids[0], signal.SIGKILL)
    for call in hanging:
        with pytest.raises(Unavailable) as lost:
            await call
        assert lost.value.reason == "lost"
    assert time.monotonic() - began < 1
    assert scripted.server.state == "backoff"
    assert text_of(await scripted.call("echo", {"a": 1})) == '{"a": 1}'
    assert len(scripted.lines('tools/call {"arguments": {}, "name": "hang"')) == 3  # M24: none was sent twice


async def test_an_idempotent_call_is_sent_again_once_and_no_other_is(start: Start) -> None:
    scripted = start(extra={"idempotent": ("di*",)})
    with pytest.raises(Unavailable, match="lost during the call"):
        await scripted.call("die")
    assert len(scripted.lines('tools/call {"arguments": {}, "name": "die"')) == 2


async def test_a_server_that_exits_at_once_is_a_crash_loop_and_then_fails_fast(start: Start) -> None:
    scripted = start(start="exit")
    seat = scripted.server._instance("")
    for _ in range(5):
        seat.life = type(seat.life)(
            seat.life.state, seat.life.failures, 0.0, seat.life.error
        )  # no waiting between
        with pytest.raises(Unavailable) as failed:
            await scripted.call("echo")
        assert failed.value.reason == "start_failed"
    began = time.monotonic()
    with pytest.raises(Unavailable) as loop:
        await scripted.call("echo")
    assert time.monotonic() - began < 0.01
    assert loop.value.reason == "crash_loop"
    assert loop.value.retry_after is not None
    status = scripted.server.status()
    assert status.state == "crash_loop"
    assert status.last_error == "It exited with code 3."
    scripted.server.revive()
    assert scripted.server.state == "idle_stopped"


async def test_a_command_that_does_not_exist_says_so(start: Start) -> None:
    scripted = start(extra={"command": "no-such-program-anywhere"})
    with pytest.raises(Unavailable, match="no such program"):
        await scripted.server.lists()


async def test_an_idle_server_is_stopped_and_comes_back_and_listing_starts_nothing(start: Start) -> None:
    scripted = start(extra={"idle_stop": 0.1}, cache=True)
    await scripted.call("echo")
    await until(lambda: scripted.server.state == "idle_stopped")
    catalog = await scripted.server.lists()
    assert len(catalog.tools) == 2
    assert len(scripted.lines("start")) == 1
    await scripted.call("echo")
    assert len(scripted.lines("start")) == 2
    again = start(cache=True, extra={"idle_stop": 0.1})
    assert again.server.catalog is None
    assert await again.server.lists() == catalog
    assert again.server.state == "cataloged"
    assert len(scripted.lines("start")) == 2


async def test_a_cursor_cycle_and_endless_pages_end_with_a_warning(start: Start) -> None:
    scripted = start(pages="cycle")
    assert [tool["name"] for tool in (await scripted.server.lists()).tools] == ["page0", "page1", "page2"]
    assert any("repeats a page" in event.text for event in scripted.events)
    endless = start(pages="endless", limits={"max_pages": 7})
    assert len((await endless.server.lists()).tools) == 7
    assert any("more than 7 pages" in event.text for event in endless.events)
    whole = start(pages="4")
    assert len((await whole.server.lists()).tools) == 4


async def test_an_advertised_list_that_is_not_there_hides_no_other(start: Start) -> None:
    scripted = start(missing="resources/templates/list")
    catalog = await scripted.server.lists()
    assert catalog.templates == ()
    assert len(catalog.resources) == 1
    assert len(catalog.tools) == 2


async def test_an_answer_that_is_no_list_is_told(start: Start) -> None:
    scripted = start(empty="tools/list")
    assert (await scripted.server.lists()).tools == ()
    assert any("The result of tools/list has no list of tools" in event.text for event in scripted.events)


@pytest.mark.parametrize("declared", [{}, {"DECLARED": "yes"}])
async def test_a_child_sees_only_allowed_and_declared_variables(
    start: Start, declared: dict[str, str]
) -> None:
    from modelplex.config.secret import Secret

    scripted = start(extra={"env": {name: Secret(value) for name, value in declared.items()}})
    seen: dict[str, str] = json.loads(text_of(await scripted.call("environment")))
    allowed = {
        "HOME",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TERM",
        "USER",
        "LANG",
        "MODELPLEX_TREE",
        "LC_CTYPE",
        *declared,
    }
    assert set(seen) <= allowed
    assert {name: seen[name] for name in declared} == declared


async def test_what_is_no_message_is_told_and_passed_over(start: Start) -> None:
    scripted = start(start="rubbish")
    await scripted.call("rubbish")
    told = [event.text for event in scripted.events if event.kind == "stdout"]
    assert "Welcome to the server!" in told
    assert "not json" in told


async def test_text_that_is_no_utf_8_is_mended_and_answers_its_call(start: Start) -> None:
    assert text_of(await start().call("undecodable")) == "caf\ufffd.txt"


async def test_a_flood_without_a_line_end_ends_the_server_and_does_not_grow_memory(start: Start) -> None:
    scripted = start(limits={"max_result": 100_000})
    await scripted.call("echo")
    before = _resident()
    with pytest.raises(Unavailable, match="without the end of a line") as lost:
        await scripted.call("flood", {"megabytes": 100})
    assert lost.value.reason == "lost"
    assert _resident() - before < 20_000_000
    await scripted.call("echo")


async def test_a_server_that_floods_from_its_start_fails_to_start(start: Start) -> None:
    scripted = start(start="flood", limits={"max_result": 100_000})
    with pytest.raises(Unavailable) as failed:
        await scripted.call("echo")
    assert failed.value.reason == "start_failed"


async def test_a_result_beyond_the_limit_becomes_an_error_that_says_so(start: Start) -> None:
    scripted = start(limits={"max_result": 10_000})
    reply = await scripted.call("big", {"size": 20_000})
    assert reply.result is not None
    assert reply.result["isError"] is True
    assert "larger than the limit of 10000 bytes" in text_of(reply)
    assert len(text_of(await scripted.call("big", {"size": 5_000}))) == 5_000


async def test_a_result_beyond_the_limit_is_passed_on_where_somebody_cuts_it(start: Start) -> None:
    scripted = start(limits={"max_result": 10_000, "oversized": "cut"})
    assert len(text_of(await scripted.call("big", {"size": 20_000}))) == 20_000
    assert "larger than the limit" not in text_of(await scripted.call("big", {"size": 39_000}))


@pytest.mark.parametrize("probe", ["die", "error:-32602"])
async def test_what_a_server_writes_of_a_probe_that_failed_is_for_who_looks_closely(
    start: Start, probe: str
) -> None:
    scripted = start(probe=probe)
    await scripted.call("stderr", {"text": "later"})
    await until(lambda: any(event.text == "later" for event in scripted.events))
    said = [(event.text, event.level) for event in scripted.events if event.kind == "stderr"]
    assert said == [("line 1 of a fault", "debug"), ("line 2 of a fault", "debug"), ("later", "info")]


async def test_what_a_server_writes_before_it_fails_to_start_is_told(start: Start) -> None:
    scripted = start(start="exit")
    with pytest.raises(Unavailable):
        await scripted.call("echo")
    said = [(event.text, event.level) for event in scripted.events if event.kind == "stderr"]
    assert ("why it ends", "info") in said


async def test_the_log_says_why_a_server_ended_in_the_server_s_own_words(start: Start) -> None:
    scripted = start(start="exit")
    with pytest.raises(Unavailable) as failed:
        await scripted.call("echo")
    warned = [event.text for event in scripted.events if event.kind == "warning"]
    assert warned == ["could not be started: It exited with code 3. Its last output: why it ends"]
    assert scripted.server.status().last_words == ("why it ends",)
    assert "why it ends" not in failed.value.sentence  # which a client is told


async def test_secrets_of_a_config_are_not_among_a_server_s_last_words(start: Start) -> None:
    token = "sk-" + "k" * 40
    scripted = start(extra={"env": {"TOKEN": Secret(token)}})
    await scripted.call("stderr", {"text": f"no such token: {token}{'x' * 9_000}"})
    with pytest.raises(Unavailable):
        await scripted.call("die")
    *_, words = scripted.server.status().last_words
    assert words.startswith("no such token: ********xxx")
    assert len(words) <= LAST_LENGTH
    assert not [event for event in scripted.events if token in event.text]
    assert max(len(event.text) for event in scripted.events) <= SHOWN


async def test_progress_of_a_task_goes_on_after_the_call_that_made_it_was_answered(start: Start) -> None:
    scripted = start()
    heard: list[Json] = []
    scripted.server.listen(lambda _, message: heard.append(message))
    await scripted.server.request(
        "tools/call", {"name": "task", "arguments": {}, "task": {}, "_meta": {"progressToken": "mine"}}
    )
    await scripted.call("go_on")
    await until(lambda: len(heard) == 2)
    assert [(each["method"], each["params"]) for each in heard] == [
        (
            "notifications/progress",
            {
                "progressToken": "mine",
                "progress": 1,
                "_meta": {"io.modelcontextprotocol/related-task": {"taskId": "t1"}},
            },
        ),
        ("notifications/tasks/status", {"taskId": "t1", "status": "completed"}),
    ]


async def test_a_call_that_is_never_answered_ends_in_time_and_is_cancelled_at_the_server(
    start: Start,
) -> None:
    scripted = start(extra={"timeout": 0.2})
    with pytest.raises(Unavailable) as late:
        await scripted.call("hang")
    assert late.value.reason == "timeout"
    await until(lambda: bool(scripted.lines("cancelled")))
    assert scripted.server.state == "ready"


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_cancelling_the_task_cancels_the_call_at_the_server(start: Start, era: str) -> None:
    scripted = start(era=era)
    call = asyncio.ensure_future(scripted.call("hang"))
    await until(lambda: bool(scripted.lines("tools/call")))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: bool(scripted.lines("cancelled")))


async def test_progress_renews_the_time_of_a_call_up_to_the_maximum(start: Start) -> None:
    scripted = start(extra={"timeout": 0.4}, limits={"max_call_time": 1.5})
    told: list[Json] = []
    params: Json = {
        "name": "progress",
        "arguments": {"steps": 4, "pause": 0.2},
        "_meta": {"progressToken": "mine"},
    }
    await scripted.server.request("tools/call", params, on_notification=told.append)
    assert [message["params"] for message in told] == [
        {"progressToken": "mine", "progress": n, "future": True} for n in range(4)
    ]
    endless: Json = {**params, "arguments": {"steps": 100, "pause": 0.1}}
    with pytest.raises(Unavailable) as late:
        await scripted.server.request("tools/call", endless, on_notification=told.append)
    assert late.value.reason == "timeout"


async def test_equal_tokens_of_two_calls_never_mix(start: Start) -> None:
    scripted = start()
    told: list[list[Json]] = [[], []]
    calls = (
        scripted.server.request(
            "tools/call",
            {"name": "progress", "arguments": {"steps": 2 + n, "pause": 0.01}, "_meta": {"progressToken": 1}},
            on_notification=told[n].append,
        )
        for n in range(2)
    )
    await asyncio.gather(*calls)
    assert [len(messages) for messages in told] == [2, 3]


async def test_too_many_calls_at_once_are_refused_and_not_queued(start: Start) -> None:
    scripted = start(limits={"max_server_in_flight": 2})
    hanging = [asyncio.ensure_future(scripted.call("hang")) for _ in range(2)]
    await until(lambda: len(scripted.lines("tools/call")) == 2)
    with pytest.raises(Unavailable) as full:
        await scripted.call("echo")
    assert full.value.reason == "limit"
    for call in hanging:
        call.cancel()
    await asyncio.wait(hanging)
    await scripted.call("echo")


async def test_scopes_have_processes_of_their_own_within_the_bound(start: Start) -> None:
    scripted = start()
    scripted.children.limit = 2
    pids = [text_of(await scripted.call("pid", scope=scope)) for scope in ("a", "b", "a")]
    assert pids[0] == pids[2] != pids[1]
    third = text_of(await scripted.call("pid", scope="c"))  # the one that was idle for longest makes room
    assert not running(int(pids[1]))
    assert running(int(pids[0]))
    hanging = [asyncio.ensure_future(scripted.call("hang", scope=scope)) for scope in ("a", "c")]
    await until(lambda: len(scripted.lines('tools/call {"arguments": {}, "name": "hang"')) == 2)
    with pytest.raises(Unavailable) as full:
        await scripted.call("pid", scope="d")
    assert full.value.reason == "limit"
    await scripted.server.end_scope("a")
    with pytest.raises(Unavailable):
        await hanging[0]
    assert not running(int(pids[0]))
    assert running(int(third))
    hanging[1].cancel()


async def test_a_changed_list_is_loaded_and_then_told_once(start: Start) -> None:
    scripted = start()
    await scripted.call("echo")
    told: list[tuple[str, str, int]] = []
    end = scripted.server.listen(
        lambda scope, message: told.append(
            (scope, message["method"], len(scripted.server.catalog.tools) if scripted.server.catalog else 0)
        )
    )
    await scripted.call("grow", {"name": "new", "times": 5})
    await until(lambda: bool(told))
    await asyncio.sleep(0.1)
    assert 1 <= len(told) <= 2  # five at once: one load, and one more for those that came during it
    assert told[0] == ("", "notifications/tools/list_changed", 3)
    assert len(scripted.lines("prompts/list")) == 1
    end()
    await scripted.call("touch", {"uri": "a://b"})
    assert len(told) <= 2


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_watched_resources_are_subscribed_to_again_after_a_crash(start: Start, era: str) -> None:
    scripted = start(era=era)
    told: list[Json] = []
    scripted.server.listen(lambda _, message: told.append(message))
    await scripted.server.watch(frozenset({"a://b"}))
    await scripted.call("touch", {"uri": "a://b"})
    await until(lambda: bool(told))
    assert told[0]["params"] == {"uri": "a://b"}
    method = "resources/subscribe" if era == "legacy" else "subscriptions/listen"
    asked = [line for line in scripted.lines(method) if "a://b" in line]
    assert len(asked) == 1
    with pytest.raises(Unavailable):
        await scripted.call("die")
    await scripted.call("echo")
    await until(lambda: len([line for line in scripted.lines(method) if "a://b" in line]) == 2)
    await scripted.server.watch(frozenset())
    if era == "legacy":
        assert len(scripted.lines("resources/unsubscribe")) == 1


async def test_a_question_goes_to_the_one_call_in_flight_and_to_no_other(start: Start) -> None:
    scripted = start()
    asked: list[tuple[str, Json]] = []

    async def answer(method: str, params: Json) -> McpReply:
        asked.append((method, params))
        return McpReply(result={"action": "accept"})

    arguments: Json = {"method": "elicitation/create", "params": {"message": "?"}}
    reply = await scripted.call("ask", arguments, on_request=answer)
    assert json.loads(text_of(reply))["result"] == {"action": "accept"}
    assert asked == [("elicitation/create", {"message": "?"})]
    refused = await scripted.call("ask", arguments)
    assert json.loads(text_of(refused))["error"]["code"] == -32601
    hanging = asyncio.ensure_future(scripted.call("hang", on_request=answer))
    await until(lambda: bool(scripted.lines('tools/call {"arguments": {}, "name": "hang"')))
    ambiguous = await scripted.call("ask", arguments, on_request=answer)
    assert json.loads(text_of(ambiguous))["error"]["code"] == -32601
    assert len(asked) == 1
    hanging.cancel()


async def test_roots_are_the_configs_and_capabilities_are_none_unless_allowed(start: Start) -> None:
    scripted = start()
    reply = await scripted.call("ask", {"method": "roots/list"})
    assert json.loads(text_of(reply))["error"]["code"] == -32601
    assert '"capabilities": {}' in scripted.lines("initialize")[0]
    rooted = start(extra={"roots": ("/srv/data",), "allow": ("elicitation",)})
    reply = await rooted.call("ask", {"method": "roots/list"})
    assert json.loads(text_of(reply))["result"] == {"roots": [{"uri": "file:///srv/data", "name": "data"}]}
    assert '"capabilities": {"elicitation": {}, "roots": {}}' in rooted.lines("initialize")[-1]
    ping = await rooted.call("ask", {"method": "ping"})
    assert json.loads(text_of(ping))["result"] == {}


async def test_log_lines_go_to_the_one_request_that_asked_for_any(start: Start) -> None:
    scripted = start()
    told: list[Json] = []
    general: list[Json] = []
    scripted.server.listen(lambda _, message: general.append(message))
    await scripted.call("log", {"a": 1}, on_notification=told.append, log_level="info")
    await scripted.call("log", {"a": 2}, on_notification=told.append)
    await until(lambda: len(general) == 1)
    assert [message["params"]["data"] for message in told] == [{"a": 1}]
    assert general[0]["params"]["data"] == {"a": 2}


async def test_secrets_are_hidden_in_what_a_server_writes(start: Start) -> None:
    from modelplex.config.secret import Secret

    scripted = start(extra={"env": {"TOKEN": Secret("hunter2hunter2")}})
    await scripted.call("stderr", {"text": "token hunter2hunter2 \x1b[31mred"})
    await until(lambda: any(event.kind == "stderr" for event in scripted.events))
    assert [event.text for event in scripted.events if event.kind == "stderr"] == ["token ********  [31mred"]


async def test_a_closed_output_is_a_lost_server(start: Start) -> None:
    scripted = start()
    with pytest.raises(Unavailable, match="closed its output"):
        await scripted.call("close")


@pytest.mark.parametrize("ignore", ["", "eof", "eof,term"])
async def test_stopping_ends_children_that_have_left_the_group(start: Start, ignore: str) -> None:
    scripted = start(ignore=ignore)
    pid = int(text_of(await scripted.call("pid")))
    child = int(text_of(await scripted.call("fork")))
    assert running(child)
    began = time.monotonic()
    await scripted.server.close()
    assert time.monotonic() - began < 6
    assert not running(pid)
    assert not running(child)


async def test_a_crash_leaves_no_child_of_the_server(start: Start) -> None:
    scripted = start(fork="yes")
    child = int(text_of(await scripted.call("fork")))
    with pytest.raises(Unavailable):
        await scripted.call("die")
    await until(lambda: not running(child), seconds=8)


async def test_without_a_network_there_is_only_the_loopback(start: Start) -> None:
    scripted = start(extra={"network": False})
    try:
        reply = await scripted.call("network")
    except Unavailable as refused:
        assert "empty network namespace" in refused.sentence  # noqa: PT017 - a system may forbid namespaces
        pytest.skip("this system lets users have no namespaces")
    assert json.loads(text_of(reply)) == ["lo"]


async def test_start_and_stop_leave_no_process_and_no_descriptor(start: Start) -> None:
    scripted = start(extra={"protocol": "legacy"}, cache=True)
    await scripted.call("echo")
    await scripted.server.end_scope("")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        await scripted.call("echo")
        await scripted.server.end_scope("")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    pids = [int(line.split()[1]) for line in scripted.lines("start")]
    assert len(pids) == 21
    assert not any(running(pid) for pid in pids)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
