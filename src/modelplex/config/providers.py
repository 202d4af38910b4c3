"""The table [[providers]]."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, get_args

from modelplex.config.address import provider_url, same_origin
from modelplex.config.agents import allowed_rules
from modelplex.config.credentials import api_key, auth, default_auth
from modelplex.config.rules import (
    PATH,
    Rule,
    build,
    header_name,
    integer,
    list_of,
    mapping,
    matching,
    one_of,
    parsed,
    read_fields,
    rules_of,
    secret,
    text,
)
from modelplex.config.secret import Secret
from modelplex.config.server import BYTES
from modelplex.config.settings import AwsAuth, ProviderConfig, TypeFacts
from modelplex.config.toml_node import FAULTY, Faulty, TomlNode
from modelplex.core.request import Endpoint, Quirks

RESERVED_HEADERS: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),  # RFC 9110, section 7.6.1: hop by hop
        *("authorization", "x-api-key", "cookie", "set-cookie"),  # credentials have their own key
        *("host", "content-length", "content-type", "content-encoding", "accept-encoding", "expect"),
    }
)
"""Headers that a config may not add to a provider's requests."""

_NAME = matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "a name of letters, digits, dots, dashes and underscores, with a letter or digit first",
)

_PLACE = matching(r"[A-Za-z0-9][A-Za-z0-9_.:-]*", "a name of letters, digits and dashes")


def _pattern(text: str) -> str:
    """Raises ValueError."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(str(error)) from None
    return text


_CLIENTS_ONLY = frozenset({"generate_content", "embed_content", "api/chat", "api/generate", "api/embed"})
"""Endpoints that no type of provider `serves` by these names: the conversations of every API are
called chat/completions there, and its embeddings embeddings.
"""
_ENDPOINTS: Final = sorted(frozenset[str](get_args(Endpoint)) - _CLIENTS_ONLY)
_ENDPOINT = one_of(_ENDPOINTS, f"an endpoint: {', '.join(_ENDPOINTS)}")
QUIRKS: Final = rules_of(Quirks)
PROVIDER: Final = rules_of(
    ProviderConfig,
    name=_NAME,
    type=_NAME,
    base_url=parsed(provider_url, "an address that begins with https://, http:// or unix:/", is_secret=True),
    api_key=list_of(api_key, "a key, or a list of keys", least=1, single=str, unique=True),
    auth=auth,
    region=_PLACE,
    project=_PLACE,
    location=_PLACE,
    resource=_PLACE,
    models=list_of(
        text("the name of a model, or a glob"),
        "a list of model names or globs (leave it out to ask the provider)",
        least=1,
        single=str,
    ),
    endpoints=list_of(_ENDPOINT, "a list of endpoints", least=1, single=str, unique=True),
    lacks=list_of(_ENDPOINT, "a list of endpoints", single=str),
    priority=integer("a priority", least=0, most=1_000_000),
    headers=mapping(secret("the header's value", empty=True), key=header_name(reserved=RESERVED_HEADERS)),
    api_version=matching(r"[A-Za-z0-9._-]+", "a version such as a date"),
    ca_file=PATH,
    max_response_size=BYTES,
    quirks=lambda node: read_fields(node, QUIRKS)[0],
    body=lambda node: FAULTY if node.members() is FAULTY else node.raw_table(),
    allow=allowed_rules,
    file=PATH,
    folder=PATH,
    volatile_texts=list_of(parsed(_pattern, "a regular expression"), "a list of regular expressions"),
)

_SYNONYMS: Final = {
    "anthropic": "claude claude-code claude-api anthropic-api",
    "azure": "azure-openai azure_openai azureopenai azure-ai azure-foundry",
    "fireworks": "fireworks-ai fireworksai",
    "gemini": "google google-ai googleai google-gemini google-genai google-generativeai gemini-api aistudio ai-studio palm",
    "huggingface": "hf hugging-face hugging_face",
    "llamacpp": "llama.cpp llama-cpp llama_cpp llama-server llamafile",
    "lmstudio": "lm-studio lm_studio",
    "mistral": "mistralai mistral-ai",
    "moonshot": "kimi moonshotai",
    "nvidia": "nim nvidia-nim nvidia_nim",
    "openai": "chatgpt gpt open-ai openai-chat openai-compatible openai_compatible openai-responses custom compatible generic litellm localai",
    "openrouter": "open-router",
    "perplexity": "pplx sonar",
    "together": "togetherai together-ai together_ai",
    "xai": "grok x-ai x.ai",
    "zai": "glm zhipu zhipuai z-ai z.ai bigmodel",
}
"""The names that other programs have for a type."""
TYPE_HINTS: Final[dict[str, str]] = {
    **{word: f'did you mean "{kind}"?' for kind, words in _SYNONYMS.items() for word in words.split()},
    **dict.fromkeys(
        "aws aws-bedrock aws_bedrock amazon amazon-bedrock".split(),
        'did you mean "bedrock", "bedrock-anthropic" for Claude, or "bedrock-converse" for all models?',
    ),
    **dict.fromkeys(
        "vertexai vertex-ai vertex_ai google-vertex google-vertexai".split(),
        'did you mean "vertex" for Gemini, "vertex-anthropic" for Claude, or "vertex-openai"?',
    ),
    **dict.fromkeys(
        "foundry azure-foundry-anthropic anthropic-foundry".split(), 'did you mean "azure-anthropic"?'
    ),
}


def provider(types: Mapping[str, TypeFacts]) -> Rule[ProviderConfig]:
    """One provider, of one of these types. Its name may stand for its type, or its type for its
    name.
    """
    names = sorted(types)
    rules = {**PROVIDER, "type": one_of(names, "a type of provider", hints=TYPE_HINTS)}

    def read(node: TomlNode) -> ProviderConfig | Faulty:
        values, members = read_fields(node, rules)
        if not members:
            return FAULTY if node.value != {} else node.reject("a name or a type", found="an empty table")
        if "type" not in members:
            if values.get("name") in types:
                values["type"] = values["name"]
            else:
                hint = TYPE_HINTS.get(
                    str(values.get("name", "")).lower(), f"the types are: {', '.join(names)}"
                )
                node.child("type").reject("a type of provider", found="none", hint=hint)
        if "name" not in members and "type" in values:
            values["name"] = values["type"]
        if not ("name" in values and "type" in values):
            return FAULTY
        facts = types[str(values["type"])]
        _fill_places(node, facts, values)
        if "base_url" not in members:
            values["base_url"] = _own_address(node, facts, values)
        _check_replay(node, str(values["type"]), members)
        _check_body(values, facts, members)
        if "auth" in members and "api_key" in members:
            members["auth"].reject("api_key or auth", found="both")
        elif not {"api_key", "auth"} & members.keys() and "base_url" in values:
            _find_credential(node, facts, values, is_own_address="base_url" not in members)
        if isinstance(values.get("auth"), AwsAuth) and not values.get("region"):
            node.child("region").reject("the region of AWS", found="none", hint="or set AWS_REGION")
        return build(ProviderConfig, values)

    return read


def _check_body(values: Mapping[str, object], facts: TypeFacts, members: Mapping[str, TomlNode]) -> None:
    """The members of `body` are those that the type's clients cannot set."""
    if (node := members.get("body")) is None or not values.get("body"):
        return
    if not facts.added:
        node.reject("no such key", hint=f"no member of a request is the owner's at {values['type']}")
        return
    for name in node.raw_table():
        member = node.get(name)
        if name not in facts.added:
            member.reject(f"a member that the owner may set: {', '.join(facts.added)}", found=f'"{name}"')
        elif not isinstance(member.value, dict) and name not in TEXT_MEMBERS:
            member.reject("a table, as the service documents it")


TEXT_MEMBERS: Final = frozenset({"projectIdentifier"})
"""Members of `body` that are strings."""
REPLAY: Final = "replay"
_OF_REPLAY: Final = (
    "run",
    "file",
    "on_miss",
    "timing",
    "live_tools",
    "folder",
    "volatile_members",
    "volatile_texts",
)


def _check_replay(node: TomlNode, kind: str, members: Collection[str]) -> None:
    """Keys of recordings belong to one type, which needs one recording."""
    if kind != REPLAY:
        for name in _OF_REPLAY:
            if name in members:
                node.child(name).reject(f'no such key, which is for type = "{REPLAY}"')
    elif ("run" in members) == ("file" in members):
        found = "both run and file" if "run" in members else "neither"
        node.child("run").reject("a run of the record, or else a file", found=found)


def _fill_places(node: TomlNode, facts: TypeFacts, values: dict[str, object]) -> None:
    """What the config does not say of `region` and its like, from the variables of the cloud."""
    environ = node.document.environ
    for key, variables in facts.address_env.items():
        if key not in values and (found := next(filter(None, map(environ.get, variables)), None)):
            values[key] = found.strip()


def _own_address(node: TomlNode, facts: TypeFacts, values: Mapping[str, object]) -> str:
    """The address of the type; "" with a fault where it needs what the config does not say."""
    if facts.needs_base_url:
        node.child("base_url").reject(f"an address: each user of {values['type']} has another", found="none")
        return ""
    missing = [key for key in facts.address_keys if key not in values]
    for key in missing:
        variables = facts.address_env.get(key, ())
        hint = f"or set {' or '.join(variables)}, or write a base_url" if variables else "or a base_url"
        node.child(key).reject(f"the {key} of {values['type']}", found="none", hint=hint)
    if missing:
        return ""
    if facts.address_keys:
        return facts.address({key: str(values[key]) for key in facts.address_keys})
    return facts.default_base_url or ""


def _find_credential(
    node: TomlNode, facts: TypeFacts, values: dict[str, object], *, is_own_address: bool
) -> None:
    """The key in the type's usual variable, else the credentials of its cloud. Not for another
    origin than the type's own, which may belong to somebody else, or need no key.
    """
    usual = facts.default_base_url
    if not (is_own_address or facts.is_users_own) and not (
        usual and same_origin(str(values["base_url"]), usual)
    ):
        return
    if not _key_of_environment(node, facts, values) and facts.credentials:
        values["auth"] = default_auth(facts.credentials)


def _key_of_environment(node: TomlNode, facts: TypeFacts, values: dict[str, object]) -> bool:
    if key := (node.document.environ.get(facts.key_env, "") if facts.key_env else "").strip():
        values["api_key"] = (Secret(key),)
        return True
    if facts.needs_key:
        hint = f"or set the environment variable {facts.key_env}" if facts.key_env else None
        node.child("api_key").reject("a key", found="none", hint=hint)
    return False
