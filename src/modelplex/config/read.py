"""From TOML to a Config: which key is of which kind, and what must hold between keys.

Above it stands `load.py`, which has the file's bytes; below it the rules and the settings. Nothing
is used unless all of it is right: `ConfigError` tells every fault at once. It touches nothing: the
environment, the provider types and whether an Ollama listens are arguments.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast, get_args, get_origin

import msgspec

from modelplex.config import agents as callers
from modelplex.config import prices, tools
from modelplex.config.address import default_host, http_address, provider_url, same_origin
from modelplex.config.detected import default_http, found_providers
from modelplex.config.problems import ConfigError, ConfigFault
from modelplex.config.rules import (
    FAULTY,
    Faulty,
    Rule,
    TomlDocument,
    TomlNode,
    alias_name,
    fields,
    flag,
    header_name,
    kind_of,
    many,
    matching,
    named,
    once,
    one_of,
    seconds,
    secret,
    shaped,
    shown,
    text,
    understood,
    whole,
)
from modelplex.config.secret import Secret
from modelplex.config.settings import (
    AgentConfig,
    Config,
    FailoverConfig,
    LogConfig,
    McpConfig,
    McpServer,
    PolicyConfig,
    PriceConfig,
    ProviderConfig,
    ServerConfig,
    TypeFacts,
)
from modelplex.config.toml_positions import Path, places
from modelplex.core.request import Quirks

LARGEST_FILE: Final = 4 * 1024 * 1024
"""Bytes of a config. A thousand providers need less; a disk image named by mistake is not read into
memory.
"""

LARGEST: Final = 2**40
"""Bytes; no size that anybody means is above it."""

NEVER_FORWARDED: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade"),  # RFC 9110 7.6.1: they end at each hop
        *("authorization", "x-api-key", "cookie", "set-cookie"),  # credentials have their own key
        *("host", "content-length", "content-type", "content-encoding", "accept-encoding", "expect"),
    }
)
"""Headers that a config may not add to a provider's requests."""

T = TypeVar("T")
Named = TypeVar("Named", ProviderConfig, McpServer, AgentConfig)

_BYTES = whole("bytes", least=1, most=LARGEST)
_CONNECTIONS = whole("connections", least=1, most=1_000_000)
_NAME = matching(
    r"[A-Za-z0-9][A-Za-z0-9._-]*",
    "a name of letters, digits, dots, dashes and underscores, with a letter or digit first",
)
_PATH = text("a path")
_SEVERAL_PATHS = "a path, or a list of them"


def _address(node: TomlNode) -> str | Faulty:
    """An address to listen on; what a port alone means is for the environment to say."""

    def parse(written: str) -> str:
        return http_address(written, host=default_host(node.document.environ))

    expected = 'an address such as "127.0.0.1:11435", or ":8080" for localhost'
    return understood(parse, expected, show=shown)(node)


_HEADERS = named(secret("the header's value", empty=True), name=header_name(refused=NEVER_FORWARDED))

SERVER: Final[dict[str, Rule[object]]] = {
    "http": once(many(_address, "an address, or a list of them", alone=True)),
    "socket": once(many(_PATH, _SEVERAL_PATHS, alone=True)),
    "socket_mode": matching(r"0?[0-7]{3}", 'octal digits in quotes, such as "0660"'),
    "socket_group": text("the name of a group"),
    "log_level": one_of(("debug", "info", "warning", "error")),
    "max_request_size": _BYTES,
    "max_body_memory": _BYTES,
    "max_body_memory_per_caller": _BYTES,
    "max_header_size": _BYTES,
    "header_timeout": seconds(),
    "body_timeout": seconds(),
    "min_body_rate": whole("bytes a second", least=0, most=LARGEST),
    "keep_alive": seconds(),
    "max_connections": _CONNECTIONS,
    "max_connections_per_listener": _CONNECTIONS,
    "max_connections_per_caller": _CONNECTIONS,
    "reserved_connections": whole("connections", least=0, most=1_000_000),
    "drain_timeout": seconds(zero=True),
    "allowed_hosts": many(
        matching(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", "a host's name, without scheme and port"),
        "a list of host names",
    ),
    "allowed_origins": many(
        matching(r"https?://[A-Za-z0-9.:\[\]_-]+", 'an origin such as "https://app.example.com"'),
        "a list of origins",
    ),
    "internal_token": secret("a token"),
    "keep_responses": text('"memory", or the path of a file'),
    "on_loss": one_of(("report", "refuse")),
    "on_pinned_state": one_of(("refuse", "drop")),
    "ping_interval": seconds(),
    **callers.SERVER,
}

FAILOVER: Final[dict[str, Rule[object]]] = {
    "max_attempts": whole("attempts", least=1, most=1000),
    "retries": whole("retries", least=0, most=100),
    "backoff": seconds(zero=True),
    "max_backoff": seconds(zero=True),
    "max_retry_after": seconds(zero=True),
    "breaker_failures": whole("failures", least=1, most=1_000_000),
    "breaker_window": seconds(),
    "breaker_cooldown": seconds(zero=True),
}

LOG: Final[dict[str, Rule[object]]] = {
    "file": _PATH,
    "bodies": flag,
    "format": one_of(("auto", "human", "json")),
    "max_size": _BYTES,
    "keep": whole("files", least=0, most=10_000),
    "max_body": whole("bytes", least=0, most=LARGEST),
}


def _quirks() -> dict[str, Rule[object]]:
    """The kinds are those of call.Quirks itself, so that a new quirk is a key at once."""

    def rule(type_: object) -> Rule[object]:
        if type_ is bool:
            return flag
        words = cast("tuple[str, ...]", get_args(type_))
        if get_origin(type_) is tuple:
            return shaped(type_, "a list of strings")
        return one_of(words) if words else shaped(type_, "a string")

    return {field.name: rule(field.type) for field in msgspec.structs.fields(Quirks)}


QUIRKS: Final = _quirks()

PROVIDER: Final[dict[str, Rule[object]]] = {
    "name": _NAME,
    "type": _NAME,
    "base_url": understood(
        provider_url, "an address that begins with https://, http:// or unix:/", show=kind_of
    ),
    "api_key": once(many(secret("a key"), "a key, or a list of keys", least=1, alone=True)),
    "models": many(
        text("the name of a model, or a glob"),
        "a list of model names or globs (leave it out to ask the provider)",
        least=1,
        alone=True,
    ),
    "priority": whole("a priority", least=0, most=1_000_000),
    "headers": _HEADERS,
    "connect_timeout": seconds(),
    "first_byte_timeout": seconds(),
    "idle_timeout": seconds(),
    "models_refresh": seconds(),
    "api_version": matching(r"[A-Za-z0-9._-]+", "a version such as a date"),
    "ca_file": _PATH,
    "verify_tls": flag,
    "max_response_size": _BYTES,
    "quirks": lambda node: fields(node, QUIRKS)[0],
    "allow": callers.ALLOWED,
}

_MEANT: Final[dict[str, str]] = {
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
"""Types by the names that other programs have for them."""
TYPE_HINTS: Final[dict[str, str]] = {
    **{word: f'did you mean "{kind}"?' for kind, words in _MEANT.items() for word in words.split()},
    **dict.fromkeys(
        "bedrock aws aws-bedrock aws_bedrock amazon amazon-bedrock".split(),
        'Bedrock\'s own form is not spoken; where it has the OpenAI form, that is type = "openai" with a base_url such as '
        '"https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1"',
    ),
    **dict.fromkeys(
        "vertex vertexai vertex-ai vertex_ai google-vertex google-vertexai".split(),
        'Vertex AI is not spoken to; did you mean "gemini", the Gemini API with a key of its own?',
    ),
}

MCP: Final[dict[str, Rule[object]]] = {
    **tools.MCP,
    "servers": lambda node: _tables(node, lambda entry: tools.server(entry, homes=HOMES)),
}

HOMES: Final[dict[str, str]] = {
    **dict.fromkeys(prices.PRICE, "one of [[prices]]"),
    **dict.fromkeys(callers.AGENT, "one of [[agents]]"),
    **dict.fromkeys(PROVIDER, "one of [[providers]]"),
    **dict.fromkeys(MCP, "[mcp]"),
    **dict.fromkeys(LOG, "[log]"),
    **dict.fromkeys(FAILOVER, "[failover]"),
    **dict.fromkeys(SERVER, "[server]"),
}
"""Where a key is at home, for one that stands in the wrong table: TOML's tables end where the next
begins, which is easily forgotten.
"""


def parse(
    content: bytes,
    *,
    file: str,
    environ: Mapping[str, str],
    types: Mapping[str, TypeFacts],
    find_ollama: Callable[[], bool] = lambda: False,
) -> Config:
    """The config in `content`; `file` is what faults call it, and becomes the Config's path.

    `environ` fills each `${NAME}`. `types` are the provider types that exist. A config that names
    no providers gets those that `found_providers` finds, and only then `find_ollama` is asked
    whether one listens. Raises ConfigError with every fault.
    """
    tree, lines = _toml(content, file=file)
    document = TomlDocument(file, lines, environ, [])
    config = _config(TomlNode(tree, (), document), types=types, find_ollama=find_ollama)
    if document.faults:
        raise ConfigError(document.faults)
    return config


def _toml(content: bytes, *, file: str) -> tuple[dict[str, object], dict[Path, int]]:
    def error(line: int | None, expected: str, found: str) -> ConfigError:
        return ConfigError([ConfigFault(file, line, "", expected=expected, found=found)])

    if len(content) > LARGEST_FILE:
        raise error(None, f"a config of at most {LARGEST_FILE} bytes", "more")
    try:
        string = content.decode("utf-8-sig")
        return tomllib.loads(string), places(string)
    except UnicodeDecodeError as fault:
        raise error(content.count(b"\n", 0, fault.start) + 1, "text in UTF-8", "other bytes") from None
    except RecursionError:
        raise error(None, "TOML", "lists or tables nested too deeply") from None
    except ValueError as fault:  # TOMLDecodeError is one; a number with thousands of digits raises another
        said = str(fault)
        at = re.search(r" \(at line (\d+), column \d+\)$| \(at end of document\)$", said)
        last = content.count(b"\n", 0, len(content.rstrip())) + 1
        line = (int(at[1]) if at[1] else last) if at else None
        reason = said[: at.start()] if at else said
        raise error(line, "TOML", reason[:1].lower() + reason[1:]) from None


def _made(kind: type[T], values: Mapping[str, object]) -> T:
    return kind(**cast("dict[str, Any]", values))


def _config(root: TomlNode, *, types: Mapping[str, TypeFacts], find_ollama: Callable[[], bool]) -> Config:
    def section(kind: type[T], rules: Mapping[str, Rule[object]]) -> Rule[T]:
        return lambda node: _made(kind, fields(node, rules, homes=HOMES)[0])

    values, _ = fields(
        root,
        {
            "server": _server,
            "providers": lambda node: _tables(node, lambda entry: _provider(entry, types=types)),
            "aliases": named(_targets, name=alias_name),
            "failover": section(FailoverConfig, FAILOVER),
            "log": section(LogConfig, LOG),
            "mcp": _mcp,
            "policy": section(PolicyConfig, callers.POLICY),
            "agents": lambda node: _tables(node, lambda entry: callers.agent(entry, homes=HOMES)),
            "prices": lambda node: prices.prices(node, homes=HOMES),
        },
        homes=HOMES,
    )
    _callers(root, values)
    _message_size(root, values)
    if not values.get("providers"):
        values["providers"] = found_providers(root.document.environ, found_ollama=find_ollama(), types=types)
    if "prices" in values:
        prices.of_providers(
            root.child("prices", cast("dict[str, object]", root.value)["prices"]),
            cast("tuple[PriceConfig, ...]", values["prices"]),
            cast("tuple[ProviderConfig, ...]", values["providers"]),
        )
    return _made(Config, {**values, "path": root.document.file})


def _mcp(node: TomlNode) -> McpConfig:
    values, _ = fields(node, MCP, homes=HOMES)
    config = _made(McpConfig, values)
    tools.agreed(node, config)
    return config


def _server(node: TomlNode) -> ServerConfig:
    values, members = fields(node, SERVER, homes=HOMES)
    if "http" not in members:
        values["http"] = default_http(node.document.environ)
    server = _made(ServerConfig, values)
    if server.body_share < server.max_request_size:
        _smaller(members, "max_body_memory_per_caller", server.max_request_size, "[server] max_request_size")
    elif server.body_memory < 2 * server.body_share:
        _smaller(members, "max_body_memory", 2 * server.body_share, "twice the share of one caller")
    return server


def _smaller(members: Mapping[str, TomlNode], key: str, least: int, what: str) -> None:
    node = members[key]
    node.wrong(f"at least {least} bytes, which is {what}", found=shown(node.value))


def _message_size(root: TomlNode, values: Mapping[str, object]) -> None:
    """A message of a tool call is a body too: one above its caller's share of body memory would be
    refused each time.
    """
    server, mcp = values["server"], values.get("mcp")
    if (
        not isinstance(server, ServerConfig)
        or not isinstance(mcp, McpConfig)
        or mcp.max_message <= server.body_share
    ):
        return
    table = cast("dict[str, object]", cast("dict[str, object]", root.value)["mcp"])
    if table.get("max_message") == mcp.max_message:
        node = root.child("mcp", table).child("max_message", table["max_message"])
        node.wrong(
            f"at most {server.body_share} bytes, which is [server] max_body_memory_per_caller",
            found=shown(mcp.max_message),
        )


def _callers(root: TomlNode, values: dict[str, object]) -> None:
    """What [server] and [[agents]] come to together: where it listens, and that nothing is used
    twice.
    """
    if "server" not in values:
        values["server"] = ServerConfig(http=default_http(root.document.environ))
    server = cast("ServerConfig", values["server"])
    agents = cast("tuple[AgentConfig, ...]", values.get("agents", ()))
    tree = cast("dict[str, object]", root.value)
    node = root.child("server", None)
    table = tree.get("server")
    written = set(cast("dict[str, object]", table)) if isinstance(table, dict) else set[str]()
    own_sockets = any(each.socket is not None for each in agents)
    if "http" not in written and (
        {"socket", "vsock"} & written or (own_sockets and not any(each.token for each in agents))
    ):
        server = msgspec.structs.replace(server, http=())
        values["server"] = server
    if not (server.http or {"socket", "vsock"} & written or "agents" in tree):
        node.child("http", None).wrong("somewhere to listen", found="neither http nor socket")
    if server.attest == "require" and not (server.socket or own_sockets):
        hint = "nobody can tell what network a client of HTTP or AF_VSOCK has"
        node.child("attest", None).wrong("a socket beside it", found="none", hint=hint)
    taken = getattr(values.get("mcp"), "stdio_socket", None)
    callers.nothing_twice(
        root.child("agents", tree.get("agents")), agents, server, sockets=[taken] if taken else []
    )


def _targets(node: TomlNode) -> tuple[str, ...] | Faulty:
    if isinstance(node.value, dict):
        return node.wrong(
            'a model, or a list of them, each as "provider/model" or "model"',
            found="a table",
            hint="a name with a dot in it is written in quotes",
        )
    read = many(
        text('"provider/model", or a model\'s name'),
        'a model, or a list of them, each as "provider/model" or "model"',
        least=1,
        alone=True,
    )
    return once(read)(node)


def _tables(node: TomlNode, entry: Rule[Named]) -> tuple[Named, ...] | Faulty:
    """A list of tables, each with a `name` of its own."""
    if not isinstance(node.value, list):
        key = str(node.path[-1])
        return node.wrong(
            "a list of tables",
            found=kind_of(node.value),
            hint=f"each begins with [[{'.'.join(map(str, node.path))}]]"
            if isinstance(node.value, dict)
            else f"as in {key} = [ {{ ... }} ]",
        )
    first: dict[str, int | None] = {}
    entries: list[Named] = []
    for element in node.elements():
        value = entry(element)
        # A fault elsewhere in the entry does not hide that its name is taken.
        name = element.written("name")
        if value is not FAULTY:
            entries.append(value)
            name = value.name
        place = element.child("name", name)
        if name in first:
            hint = f"the first is on line {first[name]}"
            place.wrong("a name of its own", found=f'"{name}" again', hint=hint)
        elif name:
            first[name] = place.line
    return tuple(entries)


def _provider(node: TomlNode, *, types: Mapping[str, TypeFacts]) -> ProviderConfig | Faulty:
    """One provider. A name that is a type's stands for the type too, and the other way round."""
    names = sorted(types)
    kind = one_of(names, "a type of provider", hints=TYPE_HINTS)
    values, members = fields(node, {**PROVIDER, "type": kind}, homes=HOMES)
    if not members:
        return (
            FAULTY
            if not isinstance(node.value, dict)
            else node.wrong("a name or a type", found="an empty table")
        )
    if "type" not in members:
        if values.get("name") not in types:
            hint = TYPE_HINTS.get(str(values.get("name", "")).lower(), f"the types are: {', '.join(names)}")
            node.child("type", None).wrong("a type of provider", found="none", hint=hint)
        else:
            values["type"] = values["name"]
    if "name" not in members and "type" in values:
        values["name"] = values["type"]
    if not ("name" in values and "type" in values):
        return FAULTY
    facts = types[str(values["type"])]
    if "base_url" not in members:
        if facts.needs_base_url:
            node.child("base_url", None).wrong(
                f"an address, since those of {values['type']} differ", found="none"
            )
        values["base_url"] = facts.default_base_url or ""
    if "api_key" not in members and "base_url" in values:
        values["api_key"] = _usual_key(node, facts, base_url=str(values["base_url"]))
    return _made(ProviderConfig, values)


def _usual_key(node: TomlNode, facts: TypeFacts, *, base_url: str) -> tuple[Secret, ...]:
    """The key in the type's usual variable; but never for an address of the user's own: it may be
    somebody else's machine, or need none.
    """
    if facts.default_base_url and not same_origin(base_url, facts.default_base_url):
        return ()
    if key := (node.document.environ.get(facts.key_env, "") if facts.key_env else "").strip():
        return (Secret(key),)
    if facts.needs_key:
        hint = f"or set the environment variable {facts.key_env}" if facts.key_env else None
        node.child("api_key", None).wrong("a key", found="none", hint=hint)
    return ()
