"""Names of models that reach out by themselves, and the switches with which a provider is told not to (isolation.md 5.6).

Above it stands the gateway, which asks for each candidate; below it the rules. Names are matched as the provider is sent them, without regard to case.
"""

from __future__ import annotations

from collections.abc import Mapping
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
_NONE: Mapping[str, object] = MappingProxyType({})


def refused_model(provider_type: str, model: str) -> Refuse | None:
    """The refusal of a name that reaches out by itself, or None. `model` is as the provider would be sent it; a name that the config spells out is not asked for here."""
    name = model.lower()
    for kind, pattern, rule in NAMES:
        if kind in {ANY_TYPE, provider_type} and fnmatchcase(name, pattern):
            return Refuse(rule=rule, path="model", sentence=sentence(rule, "model"))
    return None


def switches(provider_type: str, dialect: str) -> Mapping[str, object]:
    """Members that stand at the top of every sealed body that goes to a provider of this type in this dialect."""
    return _OFF.get((provider_type, dialect)) or _OFF.get((ANY_TYPE, dialect), _NONE)
