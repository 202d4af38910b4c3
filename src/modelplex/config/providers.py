"""The table [[providers]]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from modelplex.config.address import provider_url, same_origin
from modelplex.config.agents import allowed_rules
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
from modelplex.config.settings import ProviderConfig, TypeFacts
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

QUIRKS: Final = rules_of(Quirks)
PROVIDER: Final = rules_of(
    ProviderConfig,
    name=_NAME,
    type=_NAME,
    base_url=parsed(provider_url, "an address that begins with https://, http:// or unix:/", is_secret=True),
    api_key=list_of(secret("a key"), "a key, or a list of keys", least=1, single=str, unique=True),
    models=list_of(
        text("the name of a model, or a glob"),
        "a list of model names or globs (leave it out to ask the provider)",
        least=1,
        single=str,
    ),
    lacks=list_of(one_of(get_args(Endpoint), "the name of an endpoint"), "a list of endpoints", single=str),
    priority=integer("a priority", least=0, most=1_000_000),
    headers=mapping(secret("the header's value", empty=True), key=header_name(reserved=RESERVED_HEADERS)),
    api_version=matching(r"[A-Za-z0-9._-]+", "a version such as a date"),
    ca_file=PATH,
    max_response_size=BYTES,
    quirks=lambda node: read_fields(node, QUIRKS)[0],
    allow=allowed_rules,
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
        "bedrock aws aws-bedrock aws_bedrock amazon amazon-bedrock".split(),
        'Bedrock\'s own API is not supported; for its OpenAI-compatible one use type = "openai" with a base_url such as '
        '"https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1"',
    ),
    **dict.fromkeys(
        "vertex vertexai vertex-ai vertex_ai google-vertex google-vertexai".split(),
        'Vertex AI is not supported; did you mean "gemini", the Gemini API with a key of its own?',
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
        if "base_url" not in members:
            if facts.needs_base_url:
                expected = f"an address: each user of {values['type']} has another"
                node.child("base_url").reject(expected, found="none")
            values["base_url"] = facts.default_base_url or ""
        if "api_key" not in members and "base_url" in values:
            values["api_key"] = _key_of_environment(node, facts, base_url=str(values["base_url"]))
        return build(ProviderConfig, values)

    return read


def _key_of_environment(node: TomlNode, facts: TypeFacts, *, base_url: str) -> tuple[Secret, ...]:
    """The key in the type's usual variable. Not for another origin than the type's own, which may
    belong to somebody else, or need no key.
    """
    if facts.default_base_url and not same_origin(base_url, facts.default_base_url):
        return ()
    if key := (node.document.environ.get(facts.key_env, "") if facts.key_env else "").strip():
        return (Secret(key),)
    if facts.needs_key:
        hint = f"or set the environment variable {facts.key_env}" if facts.key_env else None
        node.child("api_key").reject("a key", found="none", hint=hint)
    return ()
