from __future__ import annotations

from modelplex.limits.agent_usage import NOTHING, AgentUsage


def test_usage_is_added_and_taken_back() -> None:
    one = AgentUsage(1, 20, 0.5)
    assert one.plus(one) == AgentUsage(2, 40, 1.0)
    assert one.plus(one.negative()) == NOTHING
