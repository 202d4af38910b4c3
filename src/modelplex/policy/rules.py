"""The rules of the sealed policy: name, reason, and the text of a refusal.

The policy tables of the dialects name a rule at each field, and the configuration checks the names
in `[policy.allow]`. Imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec


class Rule(msgspec.Struct, frozen=True):
    """`reason` is a sentence of docs/reference/policy.md. A refusal reads "<path> <problem> (rule
    <name>). <remedy>". A `fixed` rule cannot be allowed.
    """

    name: str
    reason: str
    problem: str
    remedy: str = "Leave it out"
    fixed: bool = False


_RULES = (
    Rule(
        "web-search",
        "The provider runs web searches whose queries the model writes.",
        "lets the provider search the web",
    ),
    Rule(
        "web-fetch",
        "The provider fetches URLs that the model chooses.",
        "lets the provider fetch URLs that the model chooses",
    ),
    Rule(
        "code-execution",
        "The provider runs code or commands on its own machines, unobserved and perhaps with network access.",
        "lets the provider run code",
        "Run it on the agent's side",
    ),
    Rule(
        "remote-mcp",
        "The provider calls an MCP server that the request names, with data of the conversation and a credential.",
        "lets the provider call an MCP server",
        "Use the gateway's own /mcp/v1",
    ),
    Rule(
        "remote-data",
        "The provider queries a search service, an index or an endpoint that the request names.",
        "lets the provider query a service that the request names",
    ),
    Rule(
        "remote-url",
        "The provider, or a local server, fetches the URL, and the URL itself can carry data.",
        "is a URL that the provider would fetch",
        "Send the content itself, as base64 or a data: URL",
    ),
    Rule(
        "bucket-write",
        "The provider writes its response to a bucket that the request names.",
        "is a location that the provider would write to",
    ),
    Rule(
        "stored-file",
        "Files, vector stores, containers, voices and other stored objects are shared by everyone who uses the key.",
        "names an object stored at the provider",
        "Send the content inline",
    ),
    Rule(
        "stored-state",
        "A response, conversation, prompt or cache stored at the provider may belong to another agent.",
        "reads or continues state stored at the provider",
        "Send the whole history instead",
    ),
    Rule("store", "The provider would store the exchange.", "makes the provider store the exchange"),
    Rule(
        "background",
        "A background response is stored, and continues after the client disconnects.",
        "makes the provider continue after the client disconnects",
        "Request a stream instead",
    ),
    Rule(
        "provider-history",
        "Items of tools that a provider ran can replay or resume that work; a sealed conversation never produces them.",
        "records work that a provider ran, and may resume it",
        "Leave such items out of the history",
    ),
    Rule(
        "provider-agents",
        "The provider runs its own agents, unobserved and on the gateway's key.",
        "makes the provider run its own agents",
    ),
    Rule(
        "image-generation",
        "A second model generates images, and may fetch a mask from a URL.",
        "makes a second model generate images",
    ),
    Rule(
        "second-model",
        "Another model reads the conversation, which nobody has allowed.",
        "makes another model read the conversation",
        "Request that model by its name",
    ),
    Rule(
        "unlisted-model",
        "A model name inside the body must be on the caller's list too, like the requested model.",
        "names a model that this caller may not use",
        "Use a model of GET /models/v1/models",
    ),
    Rule(
        "self-searching-model",
        "Some models search the web or run code on their own; the name alone turns it on.",
        "is a model that searches or runs code on its own",
        "Use another model",
    ),
    Rule(
        "off-machine-model",
        "Some model names of a local server stand for models that run elsewhere.",
        "is a model that does not run on the local server",
        "Use another model",
    ),
    Rule(
        "hidden-characters",
        "A name with invisible characters may match one model here and select another at the provider.",
        "is a name with control or invisible characters",
        "Remove those characters",
        fixed=True,
    ),
    Rule(
        "labels", "Labels stored at the provider are a covert channel, and can identify users.", "is a label"
    ),
    Rule(
        "identity",
        "Ids of users, devices and cached prompts are replaced by keyed hashes, which are stable and reveal nothing.",
        "identifies the user",
    ),
    Rule(
        "price",
        "Service tier, speed, billing and region are the operator's choice.",
        "selects price, billing or region",
    ),
    Rule(
        "cache-retention",
        "How long a provider retains a prompt is the operator's choice.",
        "sets how long the prompt is retained",
    ),
    Rule(
        "provider-switch",
        "An option of one provider, which may route, extend or reconfigure the request.",
        "is an option of one provider",
    ),
    Rule(
        "beta",
        "A beta may enable tools or storage that the policy does not cover.",
        "enables a feature that the policy does not cover",
    ),
    Rule(
        "unknown-field",
        "Only known members are forwarded: the policy cannot know what a new one does.",
        "is an unknown member",
    ),
    Rule(
        "unknown-value",
        "Options accept only known values, or short ones of a known pattern: no URL and no id fits.",
        "has an unknown value",
    ),
    Rule(
        "unknown-tool",
        "Only tools that the client runs are forwarded: the provider may run a tool of a new type itself.",
        "is a tool of an unknown type",
    ),
    Rule(
        "unknown-part",
        "Only known types of content are forwarded: a new one may name a URL or a stored object.",
        "has an unknown type",
        "Send it as text",
    ),
    Rule(
        "unknown-form",
        "A value whose type differs from the API's schema cannot be checked.",
        "does not have the type that the API's schema says",
        "Send it as the API reference describes it",
    ),
    Rule(
        "duplicate-key",
        "Of a duplicate key, one parser uses the first value and another the last.",
        "is a duplicate key",
        "Send it once",
        fixed=True,
    ),
    Rule(
        "unread-form",
        "Of a multipart form, only the model name is read.",
        "is a multipart form, which the policy cannot check",
        "Send JSON if the operation accepts it",
    ),
    Rule(
        "malformed",
        "Parsers disagree about what is not valid JSON in UTF-8.",
        "is not valid JSON in UTF-8",
        "Send RFC 8259 JSON",
        fixed=True,
    ),
    Rule(
        "too-deep",
        "Parsers disagree about deep nesting, and it can crash some.",
        "is nested more than 128 levels deep",
        "Send a flatter body",
        fixed=True,
    ),
)
RULES: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in _RULES})
"""Every rule by its name."""
OPENABLE = frozenset(rule.name for rule in _RULES if not rule.fixed)
"""Names that a list of allowed rules may contain."""


BoundFault = Literal[
    "",
    "no-domains-here",
    "no-count-here",
    "no-domain-left",
    "both-lists-here",
    "another-here",
    "too-many-here",
]
"""Why a request does not meet the bounds of an allowed rule, or that it has too many values to
strip.
"""
_NOT_BOUNDABLE = "Use a form that supports it (web_search of Anthropic or of Responses)"
_BOUND_FAULTS: Mapping[BoundFault, tuple[str, str]] = MappingProxyType(
    {
        "no-domains-here": (
            "is allowed for some domains only, and this form has no member for a list of domains",
            _NOT_BOUNDABLE,
        ),
        "no-count-here": (
            "is allowed for a number of uses only, and this form has no member for a limit",
            _NOT_BOUNDABLE,
        ),
        "no-domain-left": ("names no allowed domain", "Name one that is allowed, or none at all"),
        "too-many-here": (
            "exceeds the number of values that the policy strips from one body",
            "Send a body without the values that the policy strips",
        ),
        "another-here": (
            "is a second tool of a rule that is allowed for a number of uses only",
            "Offer one such tool in a request",
        ),
        "both-lists-here": (
            "blocks a part of an allowed domain, which the provider's API cannot express",
            "List the wanted domains instead",
        ),
    }
)


def refusal_message(rule: str, path: str, *, fault: BoundFault = "") -> str:
    """The message for the user: path, rule, remedy, and the setting that allows it. It contains no
    value of the request.
    """
    row = RULES[rule]
    problem, remedy = _BOUND_FAULTS[fault] if fault else (row.problem, row.remedy)
    if fault == "too-many-here" or (row.fixed and not fault):
        setting = ""
    elif fault:
        setting = "; the gateway's operator sets the bounds in [policy.allow]"
    else:
        setting = "; the gateway's operator can allow it in [policy.allow]"
    return f"Refused by policy: {path or 'the body'} {problem} (rule {rule}). {remedy}{setting}."
