"""Paths and headers of requests to the MCP routes."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.mcp.clients.http_request import accepted, read_head, route_of


@pytest.mark.parametrize(
    ("path", "form", "name"),
    [
        ("/mcp/v1", "mcp", None),
        ("/mcp/v1/sse", "sse", None),
        ("/mcp/v1/servers/a/sse", "sse", "a"),
        ("/mcp/v1/tools", "tools", None),
        ("/mcp/v1/tools/a__b/call", "call", "a__b"),
        ("/mcp/v1/tools/a/b/call", "call", "a/b"),
    ],
)
def test_a_path_has_a_form_and_a_name(path: str, form: str, name: Any) -> None:
    found = route_of(path)
    assert found is not None
    assert (found.form, found.name) == (form, name)


@pytest.mark.parametrize(
    ("accept", "json", "events"),
    [
        ("", False, False),
        ("*/*", True, True),
        ("application/json", True, False),
        ("Application/JSON; charset=utf-8, TEXT/event-stream", True, True),
        ("text/event-stream;q=0.5,application/*;q=0", False, True),
        ("text/html", False, False),
    ],
)
def test_accept_is_read_by_media_type(accept: str, json: bool, events: bool) -> None:
    found = accepted(accept)
    assert (found.json, found.events) == (json, events)


def test_repeated_headers_are_kept() -> None:
    head = read_head(
        [
            (b"accept", b"a/b"),
            (b"accept", b"c/d"),
            (b"mcp-session-id", b"x"),
            (b"mcp-session-id", b"y"),
            (b"mcp-param-a", b" 1 "),
        ]
    )
    assert head.accept == "a/b,c/d"
    assert head.session == "", "of two sessions none is meant"
    assert head.arguments == (("a", "1"),)
