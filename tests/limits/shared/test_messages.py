import json

import pytest

from modelplex.config.settings import AgentConfig, BudgetConfig, RateConfig
from modelplex.limits.agent_usage import AgentUsage
from modelplex.limits.shared.messages import (
    SharedEnd,
    SharedMessage,
    account_of,
    decode,
    encode,
    rows,
    totals_of,
)
from tests.limits.shared.scripted import account


def test_an_agents_limits_are_whole_numbers() -> None:
    agent = AgentConfig(
        name="x",
        budget=BudgetConfig(usd=0.1, per="month"),
        rate=RateConfig(requests=3, tokens=4),
        concurrent=5,
    )
    wanted = account("x", nano=100_000_000, period="m", concurrent=5, requests=3, per_minute=4)
    assert account_of(agent) == wanted
    assert account_of(AgentConfig(name="y")) == account("y")


def test_a_message_is_json() -> None:
    message = SharedMessage(node="n", seq=2, lease=1000, ends=(SharedEnd("1", ("x",), 1, 2, 3, True),))
    found = json.loads(encode(message))
    assert found["ends"] == [["1", ["x"], 1, 2, 3, True]]
    assert found["reserve"] == []


def test_a_reply_has_lists_that_are_objects_where_they_are_empty() -> None:
    reply = decode(
        b'{"state":"ok","now":"5","nodes":1,"reserve":[["ok"]],"held":{},"totals":[["x","2026-12-02",'
        b'["1","2","3000000000","4","5","6","7","8","9000000000","2","1"]]]}'
    )
    assert (rows(reply.reserve), rows(reply.held)) == ([["ok"]], [])
    totals = totals_of(reply)["x"]
    assert totals.spent("day") == AgentUsage(1, 2, 3.0)
    assert totals.spent("total") == AgentUsage(7, 8, 9.0)
    assert totals.running == 2


def test_totals_that_are_no_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        totals_of(decode(b'{"state":"ok","totals":[["x","2026-12-02",["a"]]]}'))
