"""Agents that are added while the gateway runs."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.config import ConfigError
from modelplex.config.api_agents import join_agents, read_agent
from tests.config.configs import DEMO, read

CONFIG = f"""\
[server]
socket = "/run/m.sock"
admin_socket = "/run/admin.sock"
internal_token = "the-internal-token"
{DEMO}
[[agents]]
name = "a"
socket = "/run/a.sock"
token = "the-token-of-a"
"""


def test_an_agent_has_the_keys_of_the_config() -> None:
    members = {
        "socket": "/run/n.sock",
        "models": ["m*"],
        "budget": {"usd": 5, "per": "day"},
        "rate": {"requests": 3},
        "allow": [{"rule": "web-search", "max_uses": 2}],
        "tags": {"team": "x"},
    }
    (of_config,) = read(
        f"""{DEMO}[[agents]]
name = "n"
socket = "/run/n.sock"
models = ["m*"]
budget = {{ usd = 5, per = "day" }}
rate = {{ requests = 3 }}
allow = [{{ rule = "web-search", max_uses = 2 }}]
tags = {{ team = "x" }}
"""
    ).agents
    assert read_agent("n", members) == of_config
    assert read_agent("n", {**members, "name": "n"}) == of_config


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({}, "a socket of its own, a token, or both"),
        ({"socket": "/x", "name": "other"}, 'name: expected no name, or "n"'),
        ({"sockett": "/x"}, "socket"),
        ({"socket": None}, "socket: expected a path, found null"),
        ({"token": "short"}, "at least 8 characters"),
        ({"token": "${HOME}-and-more"}, "HOME"),
        ({"socket": "/x", "budget": {"usd": -1}}, "US dollars"),
        ({"socket": "/x", "models": "m"}, "models"),
    ],
)
def test_a_fault_names_the_key_and_no_secret(members: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_agent("n", members)
    assert fault in refused.value.sentence
    assert refused.value.sentence.startswith(("the agent", "the config has"))


def test_a_name_that_is_none_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="name: expected a name of 1 to 64"):
        read_agent("a b", {"socket": "/x"})


def test_the_config_wins_and_the_others_are_added() -> None:
    config = read(CONFIG)
    new = read_agent("new", {"socket": "/run/new.sock"})
    twice = read_agent("twice", {"socket": "/run/../run/new.sock"})
    more = {
        "new": new,
        "a": read_agent("a", {"socket": "/run/other.sock"}),
        "same_socket": read_agent("same_socket", {"socket": "/run//a.sock"}),
        "admin": read_agent("admin", {"socket": "/run/admin.sock"}),
        "token": read_agent("token", {"token": "the-token-of-a"}),
        "internal": read_agent("internal", {"token": "the-internal-token"}),
        "twice": twice,
    }
    joined = join_agents(config, more)
    assert [agent.name for agent in joined.config.agents] == ["a", "new"]
    assert joined.added == {"new"}
    assert {name: conflict.code for name, conflict in joined.conflicts.items()} == {
        "a": "agent_in_config",
        "same_socket": "agent_socket_used",
        "admin": "agent_socket_used",
        "token": "agent_token_used",
        "internal": "agent_token_used",
        "twice": "agent_socket_used",
    }
    assert "the-token" not in str(joined.conflicts)
    assert join_agents(config, {}).config is config
