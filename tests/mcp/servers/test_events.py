"""Log events of a server."""

import pytest

from modelplex.config.mcp_settings import McpServer
from modelplex.config.secret import Secret
from modelplex.mcp.constants import Unavailable
from modelplex.mcp.server_output import LAST_LENGTH, LINES, SHOWN
from modelplex.mcp.servers.events import MAX_HELD_LINES, ServerEvent, ServerEvents

from .conftest import Start, until


@pytest.mark.parametrize("probe", ["die", "error:-32602"])
async def test_lines_written_because_of_a_failed_probe_are_logged_at_debug_level(
    start: Start, probe: str
) -> None:
    scripted = start(probe=probe)
    await scripted.call("stderr", {"text": "later"})
    await until(lambda: any(event.text == "later" for event in scripted.events))
    lines = [(event.text, event.level) for event in scripted.events if event.kind == "stderr"]
    assert lines == [("line 1 of a fault", "debug"), ("line 2 of a fault", "debug"), ("later", "info")]


async def test_lines_written_before_a_failed_start_are_logged(start: Start) -> None:
    scripted = start(start="exit")
    with pytest.raises(Unavailable):
        await scripted.call("echo")
    lines = [(event.text, event.level) for event in scripted.events if event.kind == "stderr"]
    assert ("why it ends", "info") in lines


async def test_the_log_has_the_last_output_of_a_server_that_ended(start: Start) -> None:
    scripted = start(start="exit")
    with pytest.raises(Unavailable) as failed:
        await scripted.call("echo")
    warned = [event.text for event in scripted.events if event.kind == "warning"]
    assert warned == ["could not be started: It exited with code 3. Its last output: why it ends"]
    assert scripted.server.status().last_words == ("why it ends",)
    assert "why it ends" not in failed.value.sentence  # clients see this


async def test_secrets_are_masked_in_the_last_output(start: Start) -> None:
    token = "sk-" + "k" * 40
    scripted = start(extra={"env": {"TOKEN": Secret(token)}})
    await scripted.call("stderr", {"text": f"no such token: {token}{'x' * 9_000}"})
    with pytest.raises(Unavailable):
        await scripted.call("die")
    *_, last = scripted.server.status().last_words
    assert last.startswith("no such token: ********xxx")
    assert len(last) <= LAST_LENGTH
    assert not [event for event in scripted.events if token in event.text]
    assert max(len(event.text) for event in scripted.events) <= SHOWN


async def test_secrets_and_control_characters_are_masked_in_logged_lines(start: Start) -> None:
    scripted = start(extra={"env": {"TOKEN": Secret("hunter2hunter2")}})
    await scripted.call("stderr", {"text": "token hunter2hunter2 \x1b[31mred"})
    await until(lambda: any(event.kind == "stderr" for event in scripted.events))
    assert [event.text for event in scripted.events if event.kind == "stderr"] == ["token ********  [31mred"]


def events_of(config: McpServer) -> tuple[ServerEvents, list[ServerEvent], list[float]]:
    """The events, what they emit, and the clock."""
    emitted: list[ServerEvent] = []
    now = [0.0]
    return ServerEvents(config, on_event=emitted.append, clock=lambda: now[0]), emitted, now


def test_held_lines_are_logged_once_the_era_is_known() -> None:
    for probed_legacy, level in ((True, "debug"), (False, "info")):
        events, emitted, _ = events_of(McpServer(name="s", command="x"))
        output = events.start_output("", hold=True)
        for number in range(MAX_HELD_LINES + 5):
            events.add_line("stderr", b"line %d" % number, scope="", output=output)
        assert emitted == []
        events.state_changed("", "ready", before="starting", probed_legacy=probed_legacy)
        lines = [event for event in emitted if event.kind == "stderr"]
        assert (len(lines), lines[0].text, lines[0].level) == (MAX_HELD_LINES, "line 0", level)
        assert events.last_lines("")[-1] == f"line {MAX_HELD_LINES + 4}"


def test_lines_above_the_rate_are_counted() -> None:
    events, emitted, now = events_of(McpServer(name="s", command="x"))
    output = events.start_output("", hold=False)
    for _ in range(LINES + 7):
        events.add_line("stdout", b"x", scope="", output=output)
    assert len(emitted) == LINES
    now[0] = 60.0
    events.add_line("stdout", b"x", scope="", output=output)
    assert "7 more lines of its output were omitted" in [event.text for event in emitted]


def test_a_failure_is_a_warning_and_a_forgotten_scope_has_no_lines() -> None:
    events, emitted, _ = events_of(McpServer(name="s", command="x", args=(Secret("--key=topsecret99"),)))
    output = events.start_output("a", hold=False)
    events.add_line("stderr", b"bad key topsecret99", scope="a", output=output)
    events.failed("a", "was lost.")
    assert (emitted[-1].level, emitted[-1].text) == ("warning", "was lost. Its last output: bad key ********")
    events.forget("a")
    events.failed("a", "was lost.")
    assert emitted[-1].text == "was lost."
    events.state_changed("a", "backoff", before="starting", probed_legacy=False)
    assert (emitted[-1].kind, emitted[-1].text, emitted[-1].level) == ("state", "backoff", "warning")
