"""Names of models that reach out by themselves, and the switches with which a provider is told not to (isolation.md 5.6).

Above it stands the gateway, which asks for each candidate; below it the rules. Names are matched as the provider is sent them, without regard to case.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

from modelplex.policy.rules import sentence
from modelplex.policy.verdict import Refuse

SEARCHES = "self-searching-model"
ELSEWHERE = "off-machine-model"
ANY_TYPE = "*"
"""Names that mean the same wherever they are served: behind a router, the maker's own name is part of the model's."""

NAMES: tuple[tuple[str, str, str], ...] = (
    (ANY_TYPE, "*gpt-4o-search-preview*", SEARCHES),
    (ANY_TYPE, "*gpt-4o-mini-search-preview*", SEARCHES),
    (ANY_TYPE, "*gpt-5-search-api*", SEARCHES),
    (ANY_TYPE, "*-search-preview*", SEARCHES),
    (ANY_TYPE, "*-deep-research*", SEARCHES),
    (ANY_TYPE, "*groq/compound*", SEARCHES),
    (ANY_TYPE, "compound-beta*", SEARCHES),
    (ANY_TYPE, "*/compound-beta*", SEARCHES),
    (ANY_TYPE, "*:online", SEARCHES),
    (ANY_TYPE, "*:online:*", SEARCHES),
    ("openrouter", "*perplexity/sonar*", SEARCHES),
    ("openrouter", "*@preset/*", SEARCHES),
    ("groq", "compound*", SEARCHES),
    ("ollama", "*:cloud", ELSEWHERE),
    ("ollama", "*-cloud", ELSEWHERE),
)
"""`(type of provider, glob, rule)`."""

_OFF: Mapping[tuple[str, str], Mapping[str, object]] = {
    ("perplexity", "openai_chat"): MappingProxyType({"disable_search": True}),
    ("openai", "openai_chat"): MappingProxyType({"store": False}),
    ("azure", "openai_chat"): MappingProxyType({"store": False}),
    (ANY_TYPE, "openai_responses"): MappingProxyType({"store": False}),
}
"""By type of provider and dialect. The Responses form stores wherever it is spoken, unless it is told not to."""
STORE = "store"
CHAT = "openai_chat"
_NONE: Mapping[str, object] = MappingProxyType({})


def refused_model(provider_type: str, model: str) -> Refuse | None:
    """The refusal of a name that reaches out by itself, or None. `model` is as the provider would be sent it; a name that the config spells out is not asked for here."""
    name = model.lower()
    for kind, pattern, rule in NAMES:
        if kind in {ANY_TYPE, provider_type} and fnmatchcase(name, pattern):
            return Refuse(rule=rule, path="model", sentence=sentence(rule, "model"))
    return None


def switches(
    provider_type: str,
    dialect: str,
    *,
    at_its_own_address: bool = True,
    stores_chat: bool = False,
    refuses: Collection[str] = (),
) -> Mapping[str, object]:
    """Members that stand at the top of every sealed body that goes to a provider of this type in this dialect.

    at_its_own_address  False for another server of that type's form: it is not told to store no chat, since strict servers answer an unknown `store` with 400
    stores_chat         `Quirks.stores_chat`: it is told wherever it is
    refuses             `Quirks.refuses`: who refuses `store` has nothing to store by. Another switch is no quirk's to leave out
    """
    wanted = _OFF.get((provider_type, dialect)) or _OFF.get((ANY_TYPE, dialect), _NONE)
    if dialect == CHAT and stores_chat:
        wanted = {**wanted, STORE: False}
    elif dialect == CHAT and not at_its_own_address:
        wanted = _without_store(wanted)
    return _without_store(wanted) if STORE in refuses else wanted


def _without_store(wanted: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in wanted.items() if name != STORE}
