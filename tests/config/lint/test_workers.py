"""Several workers that would have nothing to serve, or would each start a tool server."""

from __future__ import annotations

from tests.config.lint.findings import DEMO, Found, found

AGENTS = '[[agents]]\nname = "a"\nsocket = "a.sock"\n[[agents]]\nname = "b"\nsocket = "b.sock"\n'
TOOLS = '[mcp]\nenabled = true\n[[mcp.servers]]\nname = "git"\ncommand = "sh"\nscope = "{}"\n'


def test_workers_that_all_serve_are_no_finding() -> None:
    assert found(f"[server]\nworkers = 2\n{DEMO}{AGENTS}") == []
    assert found(f'[server]\nhttp = ":1"\nworkers = 2\n{DEMO}') == []


def test_workers_without_a_listener() -> None:
    assert found(f"[server]\nworkers = 3\n{DEMO}{AGENTS}") == [
        Found("warning", "idle-workers", 2, "server.workers")
    ]


def test_http_of_one_worker() -> None:
    token = '[[agents]]\nname = "c"\ntoken = "a-long-enough-token"\n'
    assert found(f'[server]\nworkers = 2\nhttp = ":1"\n{DEMO}{AGENTS}{token}') == [
        Found("warning", "http-of-one-worker", 2, "server.workers")
    ]


def test_a_shared_tool_server_is_started_by_each_worker() -> None:
    text = f"[server]\nworkers = 2\n{DEMO}{AGENTS}"
    line = text.count("\n") + 3
    assert found(text + TOOLS.format("shared")) == [
        Found("warning", "tool-server-per-worker", line, "mcp.servers[0]")
    ]
    assert found(text + TOOLS.format("agent")) == []
    assert found(text.replace("workers = 2", "workers = 1") + TOOLS.format("shared")) == []
