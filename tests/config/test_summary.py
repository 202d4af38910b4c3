"""A config without its secrets, as text and as JSON."""

from typing import cast

import msgspec

from modelplex.config import (
    ServerConfig,
    redacted,
)
from modelplex.config.summary import agent_summary, policies, summary
from tests.config.configs import DEMO, KEY, read

TOKEN = "a-token-of-16-ch"


def test_the_redacted_config_counts_api_keys() -> None:
    text = '[[providers]]\ntype = "demo"\n[[providers]]\ntype = "openai"\n[[providers]]\ntype = "groq"\napi_key = ["a", "b"]'
    providers = cast("list[dict[str, object]]", redacted(read(text, OPENAI_API_KEY=KEY))["providers"])
    assert [provider["api_key"] for provider in providers] == ["not set", "set", "2 keys"]


def test_the_summary_of_an_agent_has_no_token() -> None:
    text = (
        DEMO
        + f"[[agents]]\nname = 'coder'\nsocket = 'c.sock'\ntoken = '{TOKEN}'\nrate = {{ requests = 6 }}\n"
        + "budget = { tokens = 9, per = 'month' }\n"
    )
    config = read(text)
    assert agent_summary(config.agents[0], config) == (
        "coder (socket c.sock, a token): models: all, tools: all, 6 requests a minute, 9 tokens a month"
    )


def test_the_summary_of_an_agent_has_each_limit() -> None:
    text = f"""
        [server]
        allow_uid = [7]
        [[agents]]
        name = "a"
        socket = "a.sock"
        models = ["m", "n*"]
        tools = ["git__*"]
        rate = {{ tokens = 5 }}
        budget = {{ usd = 2.5 }}
        on_unpriced = "refuse"
        concurrent = 2
        policy = "open"
        attest = "warn"
        [[agents]]
        name = "b"
        token = "{TOKEN}"
        budget = {{ usd = 1, per = "day" }}
        """
    config = read(text)
    first, second = config.agents
    assert agent_summary(first, config) == (
        "a (socket a.sock): models: m, n*, tools: git__*, 5 tokens a minute, $2.5 in total, "
        "models without a known price refused, 2 at once, policy open, users 7, attest warn"
    )
    assert agent_summary(second, config) == "b (a token): models: all, tools: all, $1 a day"
    closed = msgspec.structs.replace(config, server=ServerConfig(http=()))
    assert agent_summary(second, closed).startswith("b (a token, which no listener here accepts): ")


def test_open_rules_have_their_bounds_and_callers() -> None:
    text = (
        "[policy.allow]\neverywhere = ['web-search']\n"
        "http = [{ rule = 'web-fetch', domains = ['a.example'], max_uses = 1 }]\n" + DEMO
    )
    assert policies(read(text)) == [
        "sockets: sealed",
        "http: open",
        "open rule web-fetch (a.example; at most 1 use a request): callers of HTTP",
        "open rule web-search: everybody",
    ]


def test_the_summary_lists_what_would_be_served() -> None:
    text = """
        [server]
        http = ":1"
        socket = "s.sock"
        vsock = 5
        [[providers]]
        type = "demo"
        priority = 2
        [[providers]]
        type = "groq"
        api_key = ["a", "b"]
        models = ["m"]
        [aliases]
        fast = ["groq/m", "demo"]
        [[agents]]
        name = "a"
        socket = "a.sock"
        [mcp]
        enabled = true
        [[mcp.servers]]
        name = "x"
        url = "https://h/secret?key=secret"
        allow = ["roots", "tasks"]
        roots = ["/w"]
        [[mcp.servers]]
        name = "y"
        command = "c"
        network = false
        tools = ["t"]
        """
    assert summary(read(text)) == [
        "config: config.toml",
        "listens on:",
        "  http://127.0.0.1:1",
        "  s.sock (a Unix socket, mode 0660)",
        "  a.sock (a Unix socket of agent a, mode 0660)",
        "  vsock:5 (AF_VSOCK, for virtual machines)",
        "providers, in the order in which they are tried:",
        "  groq (groq) at https://api.groq.com/openai/v1: priority 1, 2 keys, models: m",
        "  demo (demo): priority 2, no key, models: all that it lists",
        "aliases:",
        "  fast -> groq/m, demo",
        "policy:",
        "  sockets: sealed",
        "  http: open",
        "agents:",
        "  a (socket a.sock): models: all, tools: all",
        "tool servers (pinning: auto, search: off):",
        "  x (https://h): protocol auto, shared, tools: all; may request roots; with tasks; roots: /w",
        "  y (c): protocol auto, shared, tools: t; without network",
    ]


def test_the_listeners_of_each_worker_are_shown_where_there_are_several() -> None:
    agents = "".join(f'[[agents]]\nname = "{name}"\nsocket = "{name}.sock"\n' for name in "ab")
    text = f'[server]\nhttp = ":1"\nworkers = 2\n{DEMO}{agents}'
    lines = summary(read(text))
    start = lines.index("workers:")
    assert lines[start + 1 : start + 3] == ["  1: 127.0.0.1:1, a.sock", "  2: 127.0.0.1:1, b.sock"]
    assert "workers:" not in summary(read(text.replace("workers = 2", "workers = 1")))


def test_many_agents_are_a_table_of_one_screen() -> None:
    agents = "".join(
        f'[[agents]]\nname = "a{number:03}"\nsocket = "s/a{number}.sock"\nrate = {{ requests = {max(1, number - 478)} }}\n'
        for number in range(500)
    )
    config = read(f'[server]\nhttp = ":1"\nworkers = 2\n{DEMO}{agents}')
    lines = summary(config)
    assert len(lines) <= 24
    assert "  500 Unix sockets of agents in s (mode 0660)" in lines
    assert "  1: 127.0.0.1:1, s/a0.sock, s/a2.sock and 248 more" in lines
    start = lines.index("agents: 500, by what they may do:")
    assert lines[start + 1 : start + 3] == [
        "  480  a000, a001, a002 and 477 more  models: all, tools: all, 1 requests a minute",
        "    1  a480                           models: all, tools: all, 2 requests a minute",
    ]
    assert lines[-2:] == ["  and 15 more, of other limits", "  `modelplex check --all` lists each agent"]
    assert sum(line.startswith("  a") for line in summary(config, whole=True)) == 500
