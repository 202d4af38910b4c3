"""The tables [[agents]] and [policy]: who may call, and what they may do."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from modelplex.config.admins import UIDS, admin_tokens
from modelplex.config.rules import (
    PATH,
    Rule,
    boolean,
    build,
    integer,
    list_of,
    mapping,
    matching,
    number,
    read_fields,
    rules_of,
    secret,
    table,
    text,
)
from modelplex.config.secret import Secret
from modelplex.config.server import GROUP, SOCKET_MODE
from modelplex.config.settings import (
    AgentConfig,
    AllowConfig,
    BudgetConfig,
    PolicyConfig,
    RateConfig,
    ServerConfig,
    TeamConfig,
)
from modelplex.config.toml_node import FAULTY, Faulty, TomlNode, quote, suggestion
from modelplex.core.caller import Bound
from modelplex.policy.bounds import BOUNDABLE, DOMAIN, AllowEntry

MIN_TOKEN: Final = 8
"""Characters. A shorter token can be guessed, and is not redacted in the log."""
TAG: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
MAX_SEED: Final = 2**31 - 1
"""Gemini's has 32 bits: an Integer of Java in GenerationConfig of
https://googleapis.github.io/java-genai (2026-12-01).
"""
MAX_COUNT: Final = 10**15
"""Tokens or requests; above any number in use."""

# --- rules of the sealed policy


def _rule_name(node: TomlNode) -> str | Faulty:
    from modelplex.policy.rules import OPENABLE, RULES

    expected = "the name of a rule of the sealed policy"
    value = text(expected)(node)
    if value is FAULTY:
        return FAULTY
    if value not in RULES:
        return node.reject(expected, found=quote(node.value), hint=suggestion(value, [*RULES]))
    return value if value in OPENABLE else node.reject("a rule that can be opened", found=quote(node.value))


def _boundable_rule(node: TomlNode) -> str | Faulty:
    name = _rule_name(node)
    if name is FAULTY or name in BOUNDABLE:
        return name
    return node.reject(f"a rule that can be bounded ({' or '.join(BOUNDABLE)})", found=quote(node.value))


BOUND: Final = rules_of(
    Bound,
    rule=_boundable_rule,
    domains=list_of(
        matching(DOMAIN, 'a domain in lower case, without scheme or path, such as "docs.example.com"'),
        "a list of domains",
        least=1,
        unique=True,
    ),
    max_uses=integer("uses in a request", least=1, most=1000),
)


def _allowed_rule(node: TomlNode) -> AllowEntry | Faulty:
    """The name of a rule, or a rule within bounds."""
    if not isinstance(node.value, dict):
        return _rule_name(node)
    values, members = read_fields(node, BOUND)
    if "rule" not in members:
        return node.child("rule").reject("the name of a rule of the sealed policy", found="none")
    if members.keys() == {"rule"}:
        expected = 'domains, max_uses, or both; a rule without bounds is a name alone, such as "web-search"'
        return node.reject(expected, found="neither")
    return build(Bound, values) if len(values) == len(members) else FAULTY


_ALLOWED: Rule[tuple[AllowEntry, ...]] = list_of(
    _allowed_rule, "a list of names of rules, or of rules within bounds", unique=True
)


def allowed_rules(node: TomlNode) -> tuple[AllowEntry, ...] | Faulty:
    """Each rule once: with and without bounds, it would be unclear which of them holds."""
    values = _ALLOWED(node)
    if values is FAULTY:
        return FAULTY
    names = [each if isinstance(each, str) else each.rule for each in values]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    return values if duplicate is None else node.reject("each rule once", found=f'"{duplicate}" twice')


ALLOW: Final = rules_of(AllowConfig, everywhere=allowed_rules, socket=allowed_rules, http=allowed_rules)
POLICY: Final = rules_of(PolicyConfig, allow=table(AllowConfig, ALLOW))

# --- agents

RATE: Final = rules_of(
    RateConfig,
    requests=integer("requests a minute", least=1, most=MAX_COUNT),
    tokens=integer("tokens a minute", least=1, most=MAX_COUNT),
)
BUDGET: Final = rules_of(
    BudgetConfig,
    usd=number("US dollars, a number above 0", lambda value: 0 < value < math.inf),
    tokens=integer("tokens", least=1, most=MAX_COUNT),
)


def _budget(node: TomlNode) -> BudgetConfig | Faulty:
    values, members = read_fields(node, BUDGET)
    if members and not {"usd", "tokens"} & members.keys():
        return node.reject("usd, tokens, or both", found="neither")
    return build(BudgetConfig, values)


def tag_name(node: TomlNode) -> str | Faulty:
    name = str(node.path[-1])
    if TAG.fullmatch(name):
        return name
    return node.reject(
        "a tag's name of 1 to 64 letters, digits, dots, dashes and underscores", found=quote(name)
    )


NAME: Final = matching(r"[A-Za-z0-9_-]{1,64}", "a name of 1 to 64 letters, digits, dashes and underscores")

AGENT: Final = rules_of(
    AgentConfig,
    name=NAME,
    team=text("the name of one of [[teams]]"),
    socket=PATH,
    socket_mode=SOCKET_MODE,
    socket_group=GROUP,
    token=secret("a token"),
    models=list_of(text("the name of a model, or a glob"), "a list of model names or globs", least=1),
    tools=list_of(text("the name of a tool, or a glob"), "a list of tool names or globs", least=1),
    rate=table(RateConfig, RATE),
    budget=_budget,
    concurrent=integer("requests at once", least=1, most=1_000_000),
    cache=boolean,
    seed=integer("a seed", least=0, most=MAX_SEED),
    allow=allowed_rules,
    allow_uid=UIDS,
    tags=mapping(text("a tag's value"), key=tag_name),
)

TEAM: Final = rules_of(TeamConfig, name=NAME, budget=_budget)


def team(node: TomlNode) -> TeamConfig | Faulty:
    values, members = read_fields(node, TEAM)
    if not isinstance(node.value, dict):
        return FAULTY
    for key, expected in (("name", "a name"), ("budget", "a budget")):
        if key not in members:
            node.child(key).reject(expected, found="none")
    return build(TeamConfig, {"name": "", **values})


def check_teams(root: TomlNode, teams: Sequence[TeamConfig], agents: Sequence[AgentConfig]) -> None:
    """Reject a team of the same name as another, and an agent of a team that is not there."""
    seen: set[str] = set()
    for node, each in zip(root.get("teams").elements(), teams, strict=False):
        if each.name in seen:
            node.child("name").reject("a name of its own", found=f'"{each.name}" again')
        seen.add(each.name)
    for node, agent in zip(root.get("agents").elements(), agents, strict=False):
        if agent.team is not None and agent.team not in seen:
            hint = suggestion(agent.team, [*seen])
            node.child("team").reject("the name of one of [[teams]]", found=quote(agent.team), hint=hint)


NEEDS_SOCKET: Final = ("socket_mode", "socket_group", "allow_uid")


def agent(node: TomlNode) -> AgentConfig | Faulty:
    values, members = read_fields(node, AGENT)
    if not isinstance(node.value, dict):
        return FAULTY
    if "name" not in members:
        node.child("name").reject("a name", found="none")
    if not {"socket", "token"} & members.keys():
        node.reject("a socket of its own, a token, or both", found="neither")
    if "socket" not in members:
        _check_without_socket(values, members)
    budget = values.get("budget")
    if "on_unpriced" in members and (not isinstance(budget, BudgetConfig) or budget.usd is None):
        members["on_unpriced"].reject("a budget with usd beside it", found="none")
    token = values.get("token")
    if isinstance(token, Secret) and len(token.reveal()) < MIN_TOKEN:
        members["token"].reject(f"a token of at least {MIN_TOKEN} characters", found="a shorter one")
    return build(AgentConfig, {"name": "", **values})


def _check_without_socket(values: Mapping[str, object], members: Mapping[str, TomlNode]) -> None:
    for key in NEEDS_SOCKET:
        if key in members:
            members[key].reject("a socket beside it", found="none")
    if values.get("attest") in {"warn", "require"}:
        hint = "the network of an HTTP client cannot be seen"
        members["attest"].reject("a socket beside it", found="none", hint=hint)


def check_unique(
    node: TomlNode, agents: Sequence[AgentConfig], server: ServerConfig, *, sockets: Iterable[str] = ()
) -> None:
    """Reject each socket and each token that is used twice. `node` is the list of agents; `sockets`
    are others in use.
    """
    owners: dict[object, str] = {posixpath.normpath(path): "[server]" for path in (*server.socket, *sockets)}
    owners[server.internal_token] = "[server] internal_token"
    owners.update(admin_tokens(server.admins))
    places = {element.raw_string("name"): element for element in node.elements()}
    for each in agents:
        for key, used, found in (
            ("socket", each.socket and posixpath.normpath(each.socket), f'"{each.socket}" again'),
            ("token", each.token, "one that is used twice"),
        ):
            if used is not None and used in owners:
                hint = f"it is that of {owners[used]}"
                places.get(each.name, node).child(key).reject(f"a {key} of its own", found=found, hint=hint)
            owners.setdefault(used, each.name)
