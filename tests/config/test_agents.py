"""The tables [[agents]] and [policy], and the keys of [server] about callers."""

import msgspec
import pytest

from modelplex.config import (
    AgentConfig,
    AllowConfig,
    BudgetConfig,
    Config,
    ConfigError,
    PolicyConfig,
    RateConfig,
    Secret,
    parse,
    provider_types,
    redacted,
)
from modelplex.config.summary import agent_summary, open_rules
from modelplex.core.caller import Bound

DEMO = '[[providers]]\ntype = "demo"\n'
TOKEN = "a-token-of-16-ch"


def read(text: str, **environ: str) -> Config:
    return parse((text + DEMO).encode(), file="config.toml", environ=environ, types=provider_types())


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    (only,) = caught.value.faults
    return str(only)


CODER = '[[agents]]\nname = "coder"\nsocket = "c.sock"\n'
READER = f'[[agents]]\nname = "reader"\ntoken = "{TOKEN}"\n'


def test_every_key_of_an_agent_is_read() -> None:
    config = read(
        CODER
        + "token = '${T}'\nsocket_mode = '0600'\nmodels = ['m', 'n*']\ntools = ['git__*']\nconcurrent = 4\n"
        "rate = { requests = 60, tokens = 100000 }\nbudget = { usd = 5, per = 'day' }\n"
        "policy = 'open'\nallow = ['web-search']\nallow_uid = [1000]\nattest = 'warn'\n",
        T=TOKEN,
    )
    assert config.agents == (
        AgentConfig(
            name="coder",
            socket="c.sock",
            socket_mode="0600",
            token=Secret(TOKEN),
            models=("m", "n*"),
            tools=("git__*",),
            rate=RateConfig(requests=60, tokens=100_000),
            budget=BudgetConfig(usd=5.0, per="day"),
            concurrent=4,
            policy="open",
            allow=("web-search",),
            allow_uid=(1000,),
            attest="warn",
        ),
    )


def test_policies_and_open_rules_are_read() -> None:
    config = read(
        "[policy]\nhttp = 'sealed'\n[policy.allow]\neverywhere = ['web-search']\nhttp = ['remote-url']\n"
        + CODER
        + "allow = ['code-execution']\n"
    )
    assert config.policy == PolicyConfig(
        http="sealed", allow=AllowConfig(everywhere=("web-search",), http=("remote-url",))
    )
    assert open_rules(config) == [
        ("code-execution", "agent coder"),
        ("remote-url", "callers of HTTP"),
        ("web-search", "everybody"),
    ]


def test_a_rule_may_be_opened_within_bounds() -> None:
    search = Bound("web-search", ("docs.example.com", "example.org"), 3)
    bounded = '{ rule = "web-search", domains = ["docs.example.com", "example.org"], max_uses = 3 }'
    config = read(
        f"[policy.allow]\nsocket = [{bounded}, 'remote-url']\n"
        + CODER
        + "allow = [{ rule = 'web-fetch', max_uses = 1 }]\n"
        + "[[providers]]\nname = 'p'\ntype = 'demo'\nallow = [{ rule = 'web-search', domains = ['a.example'] }]\n"
    )
    assert config.policy.allow == AllowConfig(socket=(search, "remote-url"))
    assert config.agents[0].allow == (Bound("web-fetch", max_uses=1),)
    assert config.providers[0].allow == (Bound("web-search", ("a.example",)),)
    assert open_rules(config) == [
        ("remote-url", "callers of sockets"),
        ("web-fetch (at most 1 use a request)", "agent coder"),
        ("web-search (a.example)", "provider p"),
        ("web-search (docs.example.com, example.org; at most 3 uses a request)", "callers of sockets"),
    ]
    assert '{"rule":"web-search","domains":["docs.example.com","example.org"],"max_uses":3}' in (
        msgspec.json.encode(redacted(config)).decode()
    )


@pytest.mark.parametrize(
    ("text", "http"),
    [
        (CODER, ()),
        (READER, ("127.0.0.1:11435",)),
        (CODER + READER, ("127.0.0.1:11435",)),
        ("[server]\nvsock = 5000\n", ()),
        ("[server]\nsocket = 'm.sock'\n" + READER, ()),
        ("[server]\nhttp = ':1'\n" + CODER, ("127.0.0.1:1",)),
        ("[server]\nhttp = []\n" + CODER, ()),
    ],
)
def test_http_is_on_unless_only_sockets_are_configured(text: str, http: tuple[str, ...]) -> None:
    assert read(text).server.http == http


def test_a_vsock_port_may_be_a_number_or_a_list() -> None:
    assert read("[server]\nvsock = 5000\n").server.vsock == (5000,)
    assert read("[server]\nvsock = [5000, 5001]\n").server.vsock == (5000, 5001)


@pytest.mark.parametrize(
    ("text", "report"),
    [
        (CODER + CODER.replace("c.sock", "d.sock"), 'agents[1].name: expected a name of its own, found "coder" again'),
        (CODER + '[[agents]]\nname = "b"\nsocket = "./c.sock"\n', "agents[1].socket: expected a socket of its own"),
        ("[server]\nsocket = 'c.sock'\n" + CODER, "it is that of [server]"),
        (READER + READER.replace("reader", "b"), "it is that of reader"),
        (f"[server]\ninternal_token = '{TOKEN}'\n" + READER, "it is that of [server] internal_token"),
        ('[[agents]]\nname = "a"\n', "expected a socket of its own, a token, or both, found neither"),
        ('[[agents]]\nsocket = "c.sock"\n', "agents[0].name: expected a name, found none"),
        (CODER.replace("coder", "a.b"), "a name of 1 to 64 letters"),
        (CODER.replace("coder", "a" * 65), "a name of 1 to 64 letters"),
        (READER + "attest = 'require'\n", "agents[0].attest: expected a socket beside it"),
        (READER + "allow_uid = [0]\n", "agents[0].allow_uid: expected a socket beside it"),
        (READER.replace(TOKEN, "short"), "a token of at least 8 characters, found a shorter one"),
        (CODER + "rate = { requests = 0 }\n", "requests a minute, a whole number from 1"),
        (CODER + "rate = { request = 1 }\n", 'did you mean "requests"?'),
        (CODER + "budget = { usd = 0 }\n", "US dollars, a number above 0, found 0"),
        (CODER + "budget = { usd = inf }\n", "US dollars, a number above 0, found inf"),
        (CODER + "budget = { per = 'day' }\n", "expected usd, tokens, or both, found neither"),
        (CODER + "budget = { usd = 1, per = 'week' }\n", '"day" or "month" or "total"'),
        (CODER + "concurrent = 0\n", "requests at once, a whole number from 1"),
        (CODER + "models = []\n", "agents[0].models: expected a list of model names or globs"),
        (CODER + "allow = ['web-serch']\n", 'did you mean "web-search"?'),
        ("[policy.allow]\nsocket = ['nothing like it']\n", "policy.allow.socket[0]: expected the name of a rule"),
        (CODER + "allow = [{ rule = 'web-search' }]\n", "agents[0].allow[0]: expected domains, max_uses, or both"),
        (CODER + "allow = [{ domains = ['a.example'] }]\n", "agents[0].allow[0].rule: expected the name of a rule"),
        (CODER + "allow = [{ rule = 'web-serch', max_uses = 1 }]\n", 'did you mean "web-search"?'),
        (CODER + "allow = [{ rule = 'remote-url', domains = ['a.example'] }]\n", "a rule that can be bounded (web-search or web-fetch)"),
        (CODER + "allow = [{ rule = 'web-search', domains = [] }]\n", "a list of domains, found an empty list"),
        (CODER + "allow = [{ rule = 'web-search', domains = ['https://a.example/x'] }]\n", "allow[0].domains[0]: expected a domain in lower case"),
        (CODER + "allow = [{ rule = 'web-search', domains = ['*.example'] }]\n", "expected a domain in lower case"),
        (CODER + "allow = [{ rule = 'web-search', domains = ['Example.org'] }]\n", "expected a domain in lower case"),
        (CODER + "allow = [{ rule = 'web-search', domains = ['a.example', 'a.example'] }]\n", "each of these once"),
        (CODER + "allow = [{ rule = 'web-search', domains = 'a.example' }]\n", "a list of domains"),
        (CODER + "allow = [{ rule = 'web-search', max_uses = 0 }]\n", "uses in a request, a whole number from 1"),
        (CODER + "allow = [{ rule = 'web-search', max_use = 1 }]\n", 'did you mean "max_uses"?'),
        (CODER + "allow = ['web-search', { rule = 'web-search', max_uses = 1 }]\n", 'expected each rule once, found "web-search" twice'),
        (CODER + "allow = [7]\n", "agents[0].allow[0]: expected the name of a rule"),
        ("[policy]\nsocket = 'closed'\n", '"sealed" or "open"'),
        ("[server]\nattest = 'require'\n", "server.attest: expected a socket beside it"),
        ("[server]\nvsock = 5000\nattest = 'require'\n", "server.attest: expected a socket beside it"),
        ("[server]\nvsock = 0\n", "a port of AF_VSOCK, a whole number from 1"),
        ("[server]\nsocket = 'm.sock'\nallow_uid = [-1]\n", "a user's number"),
        ("[agents]\nname = 'a'\n", "each begins with [[agents]]"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_reported_with_the_expected_one(text: str, report: str) -> None:
    assert report in fault(text)


def test_a_rule_that_cannot_be_opened_is_rejected() -> None:
    from modelplex.policy.rules import RULES

    fixed = next(rule.name for rule in RULES.values() if rule.fixed)
    assert "expected a rule that can be opened" in fault(f"[policy.allow]\neverywhere = ['{fixed}']\n")


def test_no_form_of_the_config_shows_a_token() -> None:
    config = read(READER)
    for shown in (
        repr(config),
        str(msgspec.json.encode(redacted(config))),
        agent_summary(config.agents[0], config),
    ):
        assert TOKEN not in shown
    assert TOKEN not in fault(READER + READER.replace("reader", "b"))


def test_on_unpriced_needs_a_budget_in_dollars() -> None:
    agent = '[[agents]]\nname = "a"\ntoken = "long-token-1"\non_unpriced = "refuse"\n'
    assert read(agent + "budget = { usd = 1 }\n").agents[0].on_unpriced == "refuse"
    for budget in ("", "budget = { tokens = 5 }\n"):
        assert "a budget with usd beside it" in fault(agent + budget)
