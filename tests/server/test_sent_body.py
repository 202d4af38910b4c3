"""The body that a provider gets, written again for a stored request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.core.errors import NotFound
from modelplex.records.store.queries import CallSummary
from modelplex.server.sent_body import sent_body
from tests.dashboard.scene import Scene, scene

BODY = {"model": "best", "messages": [{"role": "user", "content": "Hi"}], "store": True, "stream": True}


def call(**more: Any) -> CallSummary:
    facts: dict[str, Any] = dict.fromkeys(CallSummary.__struct_fields__, 0)
    facts |= {
        "id": "mpx-1",
        "agent": "coder",
        "listener": "unix:/x",
        "dialect": "openai_chat",
        "endpoint": "chat/completions",
        "requested_model": "best",
        "provider": "anthropic",
        "model": "claude-opus-fast",
    }
    return CallSummary(**(facts | more))


async def written(made: Scene, one: CallSummary, body: Any = BODY) -> Any:
    app = made.running.process.app
    return json.loads(await sent_body(app.gateway, app.callers, one, json.dumps(body).encode()))


async def test_the_policy_and_the_models_name_are_applied_as_when_it_was_served(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        await made.call("coder", "best", store=True, messages=BODY["messages"])
        sent = await written(made, call())
        assert sent["model"] == "claude-opus-fast"
        assert "store" not in sent
        # HTTP callers have the open policy.
        assert (await written(made, call(agent="", listener="tcp:127.0.0.1:1")))["store"] is True


@pytest.mark.parametrize(
    "more", [{"agent": "gone"}, {"provider": ""}, {"provider": "local"}, {"model": "claude-opus-halts"}]
)
async def test_what_is_no_longer_served_like_this_is_said(tmp_path: Path, more: dict[str, str]) -> None:
    async with scene(tmp_path) as made:
        with pytest.raises(NotFound):
            await written(made, call(**more))
