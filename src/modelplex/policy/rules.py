"""The rules of the sealed policy by name: why each is there, and what a refusal says.

Above it stand the tables of the dialects, which name a rule at each field, and the configuration,
which checks the names in `[policy.allow]`; below it nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec


class Rule(msgspec.Struct, frozen=True):
    """`why` is a sentence for the manual. A refusal reads "<path> <says> (rule <name>). <instead>;
    ...". A `fixed` rule cannot be opened.
    """

    name: str
    why: str
    says: str
    instead: str = "Leave it out"
    fixed: bool = False


_HISTORY = "Send the whole history instead"

_RULES = (
    Rule(
        "web-search",
        "The provider searches the web with words of the model's own.",
        "makes the provider search the web",
    ),
    Rule(
        "web-fetch",
        "The provider fetches addresses that the model names.",
        "makes the provider fetch what the model names",
    ),
    Rule(
        "code-execution",
        "The provider runs code or commands on a machine of its own, out of sight and perhaps with a network.",
        "makes the provider run code",
        "Run it on the agent's side",
    ),
    Rule(
        "remote-mcp",
        "The provider calls whatever MCP server the request names, with the agent's words and a credential.",
        "makes the provider call an MCP server",
        "Use the gateway's own /mcp/v1",
    ),
    Rule(
        "remote-data",
        "The provider asks a search service, an index or an endpoint that the request names.",
        "makes the provider ask a service that the request names",
    ),
    Rule(
        "remote-url",
        "The provider, or a local server, fetches the address: the address is the message.",
        "is an address that the provider would fetch",
        "Send the content itself, as base64 or a data: URL",
    ),
    Rule(
        "bucket-write",
        "The provider writes its answer to a bucket that the request names.",
        "is a place that the provider would write to",
    ),
    Rule(
        "stored-file",
        "Files, vector stores, containers, voices and other stored objects belong to anyone on the shared key.",
        "names an object that is stored at the provider",
        "Send the content itself, inline",
    ),
    Rule(
        "stored-state",
        "A response, conversation, prompt or cache that the provider keeps may be another agent's.",
        "reads or continues what the provider keeps",
        _HISTORY,
    ),
    Rule("store", "The provider would keep the exchange.", "makes the provider keep the exchange"),
    Rule(
        "background",
        "A response in the background is stored, and outlives its client.",
        "makes the provider work on after the client is gone",
        "Ask for a stream instead",
    ),
    Rule(
        "provider-history",
        "Items of work that a provider ran replay it or resume it; they cannot arise in a sealed conversation.",
        "is a record of work that a provider ran, and may resume it",
        "Leave such items out of the history",
    ),
    Rule(
        "provider-agents",
        "The provider runs agents of its own, out of sight and on the gateway's key.",
        "makes the provider run agents of its own",
    ),
    Rule(
        "image-generation",
        "Another model draws, and may fetch a mask by its address.",
        "makes a second model draw",
    ),
    Rule(
        "second-model",
        "Another model reads the conversation, though nobody allowed it.",
        "makes another model read the conversation",
        "Ask for that model by its name",
    ),
    Rule(
        "unlisted-model",
        "A model name within a body is judged by the caller's list, as the one at its top is.",
        "names a model that this caller may not use",
        "Name one of GET /models/v1/models",
    ),
    Rule(
        "self-searching-model",
        "Some models search the web or run code by themselves: their name is the switch.",
        "is a model that searches or runs code by itself",
        "Name another model",
    ),
    Rule(
        "off-machine-model",
        "Some names at a local server are models that run elsewhere.",
        "is a model that runs elsewhere than on the local server",
        "Name another model",
    ),
    Rule(
        "hidden-characters",
        "A name with characters that nobody sees is matched as one name and served as another.",
        "is a name with control or invisible characters",
        "Send the name without them",
        fixed=True,
    ),
    Rule("labels", "Labels at the provider are a covert channel, and name who works here.", "is a label"),
    Rule(
        "identity",
        "Ids of users, devices and cached prompts are overwritten by keyed hashes: stable, and telling nothing.",
        "tells who the user is",
    ),
    Rule(
        "price",
        "Tier, speed, payer and place are the operator's choice.",
        "chooses price, payer or place",
    ),
    Rule(
        "cache-retention", "How long a provider keeps a prompt is the operator's choice.", "keeps the prompt"
    ),
    Rule(
        "provider-switch",
        "A switch of one provider's, which may route, extend or reconfigure what is done with the request.",
        "is a switch of one provider's",
    ),
    Rule(
        "beta",
        "A beta may bring tools or stores that no table here knows.",
        "turns on what is not known here",
    ),
    Rule(
        "unknown-field",
        "Only known members go out: what a new one does is not known here.",
        "is not a member that is known here",
    ),
    Rule(
        "unknown-value",
        "Of a switch only known words, or short ones of a known pattern, go out: an address or an id is none.",
        "has a value that is not known here",
    ),
    Rule(
        "unknown-tool",
        "Only tools that the client runs go out: a new type may be one that the provider runs.",
        "is a tool of a type that is not known here",
    ),
    Rule(
        "unknown-part",
        "Only known kinds of content go out: a new one may name an address or a stored object.",
        "is of a type that is not known here",
        "Send it as text",
    ),
    Rule(
        "unknown-form",
        "What has another shape than its dialect's cannot be judged.",
        "has another shape than the dialect's",
        "Send it as the API's reference says",
    ),
    Rule(
        "duplicate-key",
        "Of a key that stands twice one parser reads the first and another the last.",
        "stands there twice",
        "Send it once",
        fixed=True,
    ),
    Rule(
        "unread-form",
        "A multipart form is not read, but for the model's name.",
        "is a multipart form, whose parts nobody here reads",
        "Send JSON where the operation takes it",
    ),
    Rule(
        "malformed",
        "What is not JSON in UTF-8 is read differently by different parsers.",
        "is not JSON in UTF-8",
        "Send RFC 8259 JSON",
        fixed=True,
    ),
    Rule(
        "too-deep",
        "Deep nesting is read differently by different parsers, and can bring one down.",
        "is nested more deeply than 128 levels",
        "Send a flatter body",
        fixed=True,
    ),
)
RULES: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in _RULES})
"""Every rule by its name."""
OPENABLE = frozenset(rule.name for rule in _RULES if not rule.fixed)
"""Names that may stand in a list of what is allowed."""


Short = Literal[
    "",
    "no-domains-here",
    "no-count-here",
    "no-domain-left",
    "both-lists-here",
    "another-here",
    "too-many-here",
]
"""What a request lacks of the bounds within which a rule is open; or that more would be stripped
than a body may lose.
"""
_SHORT: Mapping[Short, tuple[str, str]] = MappingProxyType(
    {
        "no-domains-here": (
            "is open for some domains alone, and this form has no words for a list of domains",
            "Use a form that has (web_search of Anthropic's and of the Responses form)",
        ),
        "no-count-here": (
            "is open for a number of uses alone, and this form has no words for one",
            "Use a form that has (web_search of Anthropic's and of the Responses form)",
        ),
        "no-domain-left": ("names no domain that is allowed", "Name one that is, or none at all"),
        "too-many-here": (
            "is one part more than a body may lose",
            "Send a body without what the policy strips",
        ),
        "another-here": (
            "is another tool of a rule that is open for a number of uses alone",
            "Offer one such tool in a request",
        ),
        "both-lists-here": (
            "blocks a part of an allowed domain, which cannot be said together",
            "Name the domains that are wanted instead",
        ),
    }
)


def sentence(rule: str, path: str, *, short: Short = "") -> str:
    """What the user reads: policy, field, rule, what to do, and the setting. It holds no value."""
    known = RULES[rule]
    if short:
        says, instead = _SHORT[short]
        if short == "too-many-here":
            return f"Refused by policy: {path} {says} (rule {rule}). {instead}."
        return f"Refused by policy: {path} {says} (rule {rule}). {instead}; the bounds are set by the gateway's owner, in [policy.allow]."
    owner = "" if known.fixed else "; the gateway's owner can allow it with [policy.allow]"
    where = path or "the body"
    return f"Refused by policy: {where} {known.says} (rule {rule}). {known.instead}{owner}."
