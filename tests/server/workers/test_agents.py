"""Agents of the API in a worker; test_worker.py has the answers, this the lack of one."""

from __future__ import annotations

import pytest

from modelplex.core.errors import Busy
from modelplex.server.workers import agents
from modelplex.server.workers.agents import SupervisorAgents
from modelplex.server.workers.messages import AgentChanged, ChangeAgent, Message


async def test_a_supervisor_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "CHANGE_SECONDS", 0.01)
    sent: list[Message] = []
    changes = SupervisorAgents(2, frozenset({"known"}), send=sent.append)
    with pytest.raises(Busy):
        await changes.change("a", None)
    assert sent == [ChangeAgent(1, 2, "a", None)]
    changes.receive(AgentChanged(1, "deleted"))  # too late, and for nobody
    assert "0 open" in repr(changes)
    assert changes.added == {"known"}
