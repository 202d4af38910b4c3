"""The tables of who may call: [[agents]], [policy], and the keys of [server] that concern callers.

It stands beside `read.py`, which calls it, and above the rules. It judges what the tables say of
each other; who calls is decided by the listeners.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from modelplex.config.rules import (
    FAULTY,
    Faulty,
    Rule,
    TomlNode,
    fields,
    flag,
    many,
    matching,
    near,
    once,
    one_of,
    secret,
    shown,
    text,
    whole,
)
from modelplex.config.secret import Secret
from modelplex.config.settings import (
    AgentConfig,
    AllowConfig,
    BudgetConfig,
    RateConfig,
    ServerConfig,
)
from modelplex.core.caller import Bound
from modelplex.policy.bounds import BOUNDABLE, DOMAIN, AllowEntry

SHORTEST_TOKEN: Final = 8
"""Characters. A shorter one is guessed, and the log does not look for it."""
MOST: Final = 10**15
"""Tokens or requests; no number that anybody means is above it."""
MOST_UID: Final = 2**32 - 2
"""The last number means "none" to the kernel."""
MOST_VSOCK_PORT: Final = 2**32 - 2

T = TypeVar("T")

_PATH = text("a path")
_MODE = matching(r"0?[0-7]{3}", 'octal digits in quotes, such as "0660"')
_GROUP = text("the name of a group")
_UID = whole("a user's number", least=0, most=MOST_UID)
_PORT = whole("a port of AF_VSOCK", least=1, most=MOST_VSOCK_PORT)
_UIDS: Rule[tuple[int, ...]] = once(many(_UID, "a list of users' numbers, such as [1000]"))
_ATTEST = one_of(("off", "warn", "require"))
_POLICY = one_of(("sealed", "open"))
_GLOBS_OF_MODELS = many(text("the name of a model, or a glob"), "a list of model names or globs", least=1)
_GLOBS_OF_TOOLS = many(text("the name of a tool, or a glob"), "a list of tool names or globs", least=1)


def _ports(node: TomlNode) -> tuple[int, ...] | Faulty:
    if isinstance(node.value, list):
        return once(many(_PORT, "a port, or a list of them"))(node)
    port = _PORT(node)
    return FAULTY if port is FAULTY else (port,)


def _rule_name(node: TomlNode) -> str | Faulty:
    from modelplex.policy.rules import OPENABLE, RULES

    expected = "the name of a rule of the sealed policy"
    value = text(expected)(node)
    if value is FAULTY:
        return FAULTY
    if value not in RULES:
        return node.wrong(expected, found=shown(node.value), hint=near(value, [*RULES]))
    return value if value in OPENABLE else node.wrong("a rule that can be opened", found=shown(node.value))


def _bounded_rule(node: TomlNode) -> str | Faulty:
    name = _rule_name(node)
    if name is FAULTY or name in BOUNDABLE:
        return name
    return node.wrong(f"a rule that can be bounded ({' or '.join(BOUNDABLE)})", found=shown(node.value))


BOUND: Final[dict[str, Rule[object]]] = {
    "rule": _bounded_rule,
    "domains": once(
        many(
            matching(DOMAIN, 'a domain in lower case, without scheme or path, such as "docs.example.com"'),
            "a list of domains",
            least=1,
        )
    ),
    "max_uses": whole("uses in a request", least=1, most=1000),
}


def _allowed(node: TomlNode) -> AllowEntry | Faulty:
    """One entry of `allow`: a rule's name, or a rule within bounds."""
    if not isinstance(node.value, dict):
        return _rule_name(node)
    values, members = fields(node, BOUND)
    if "rule" not in members:
        node.child("rule", None).wrong("the name of a rule of the sealed policy", found="none")
        return FAULTY
    if members.keys() == {"rule"}:
        return node.wrong(
            'domains, max_uses, or both; a rule without bounds is a name alone, such as "web-search"',
            found="neither",
        )
    return _made(Bound, values) if len(values) == len(members) else FAULTY


_ENTRIES: Rule[tuple[AllowEntry, ...]] = once(
    many(_allowed, "a list of names of rules, or of rules within bounds")
)


def _opened(node: TomlNode) -> tuple[AllowEntry, ...] | Faulty:
    """A list of what is opened, each rule once: the same rule with bounds and without would leave
    open which of them holds.
    """
    values = _ENTRIES(node)
    if values is FAULTY:
        return FAULTY
    rules = [each if isinstance(each, str) else each.rule for each in values]
    twice = next((rule for rule in rules if rules.count(rule) > 1), None)
    return values if twice is None else node.wrong("each rule once", found=f'"{twice}" twice')


ALLOWED: Final[Rule[tuple[AllowEntry, ...]]] = _opened

SERVER: Final[dict[str, Rule[object]]] = {
    "vsock": _ports,
    "allow_uid": _UIDS,
    "attest": _ATTEST,
    "state_folder": _PATH,
    "allow_unauthenticated": flag,
}

ALLOW: Final[dict[str, Rule[object]]] = {
    "everywhere": ALLOWED,
    "socket": ALLOWED,
    "http": ALLOWED,
}

POLICY: Final[dict[str, Rule[object]]] = {
    "socket": _POLICY,
    "http": _POLICY,
    "allow": lambda node: _made(AllowConfig, fields(node, ALLOW)[0]),
}

RATE: Final[dict[str, Rule[object]]] = {
    "requests": whole("requests a minute", least=1, most=MOST),
    "tokens": whole("tokens a minute", least=1, most=MOST),
}


def _dollars(node: TomlNode) -> float | Faulty:
    value = node.value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    return node.wrong("US dollars, a number above 0", found=shown(value))


BUDGET: Final[dict[str, Rule[object]]] = {
    "usd": _dollars,
    "tokens": whole("tokens", least=1, most=MOST),
    "per": one_of(("day", "month", "total")),
}


def _budget(node: TomlNode) -> BudgetConfig | Faulty:
    values, members = fields(node, BUDGET)
    if members and not {"usd", "tokens"} & members.keys():
        return node.wrong("usd, tokens, or both", found="neither")
    return _made(BudgetConfig, values)


AGENT: Final[dict[str, Rule[object]]] = {
    "name": matching(r"[A-Za-z0-9_-]{1,64}", "a name of 1 to 64 letters, digits, dashes and underscores"),
    "socket": _PATH,
    "socket_mode": _MODE,
    "socket_group": _GROUP,
    "token": secret("a token"),
    "models": _GLOBS_OF_MODELS,
    "tools": _GLOBS_OF_TOOLS,
    "rate": lambda node: _made(RateConfig, fields(node, RATE)[0]),
    "budget": _budget,
    "concurrent": whole("requests at once", least=1, most=1_000_000),
    "on_unpriced": one_of(("allow", "refuse")),
    "policy": _POLICY,
    "allow": ALLOWED,
    "allow_uid": _UIDS,
    "attest": _ATTEST,
}

OF_A_SOCKET: Final = ("socket_mode", "socket_group", "allow_uid")
"""Keys that mean nothing without `socket`."""


def agent(node: TomlNode, *, homes: Mapping[str, str]) -> AgentConfig | Faulty:
    """One of [[agents]]."""
    values, members = fields(node, AGENT, homes=homes)
    if not isinstance(node.value, dict):
        return FAULTY
    if "name" not in members:
        node.child("name", None).wrong("a name", found="none")
    if not {"socket", "token"} & members.keys():
        node.wrong("a socket of its own, a token, or both", found="neither")
    if "socket" not in members:
        for key in OF_A_SOCKET:
            if key in members:
                members[key].wrong("a socket beside it", found="none")
        if values.get("attest") in {"warn", "require"}:
            members["attest"].wrong(
                "a socket beside it", found="none", hint="nobody can tell what network a client of HTTP has"
            )
    budget = values.get("budget")
    if "on_unpriced" in members and (not isinstance(budget, BudgetConfig) or budget.usd is None):
        members["on_unpriced"].wrong("a budget with usd beside it", found="none")
    token = values.get("token")
    if isinstance(token, Secret) and len(token.reveal()) < SHORTEST_TOKEN:
        members["token"].wrong(f"a token of at least {SHORTEST_TOKEN} characters", found="a shorter one")
    return _made(AgentConfig, {"name": "", **values})


def nothing_twice(
    node: TomlNode, agents: Sequence[AgentConfig], server: ServerConfig, *, sockets: Iterable[str] = ()
) -> None:
    """Tells each socket and each token that two have. `node` is the list of agents; `sockets` are
    others that are taken.
    """
    taken = {posixpath.normpath(path): "[server]" for path in (*server.socket, *sockets)}
    tokens: dict[Secret, str] = {}
    if server.internal_token is not None:
        tokens[server.internal_token] = "[server] internal_token"
    places = {element.written("name"): element for element in node.elements()} if agents else {}
    for each in agents:
        place = places.get(each.name, node)
        if each.socket is not None:
            path = posixpath.normpath(each.socket)
            if path in taken:
                place.child("socket", None).wrong(
                    "a socket of its own", found=f'"{each.socket}" again', hint=f"it is that of {taken[path]}"
                )
            taken.setdefault(path, each.name)
        if each.token is not None:
            if each.token in tokens:
                place.child("token", None).wrong(
                    "a token of its own",
                    found="one that is used twice",
                    hint=f"it is that of {tokens[each.token]}",
                )
            tokens.setdefault(each.token, each.name)


def _made(kind: type[T], values: Mapping[str, object]) -> T:
    return kind(**cast("dict[str, Any]", values))
