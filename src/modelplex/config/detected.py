"""What can be served without a config: the keys in the environment, an Ollama, and always the demo.

It stands beside `read.py` and below `cli`. It looks at nothing itself: the environment is an
argument, and so is whether an Ollama listens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from modelplex.config.address import DEFAULT_HOST, default_host, http_address
from modelplex.config.problems import ConfigError, ConfigFault
from modelplex.config.secret import Secret
from modelplex.config.settings import DEFAULT_HTTP, Config, ProviderConfig, ServerConfig, TypeFacts

OLLAMA: Final = "ollama"
DEMO: Final = "demo"

KEY_PRIORITY: Final = 1
OLLAMA_PRIORITY: Final = 2
DEMO_PRIORITY: Final = 1000
"""After everything else: its answers are made up, and must never stand in for a real one by
accident.
"""

_OLLAMA_PORT: Final = 11434


def embedded(environ: Mapping[str, str], *, found_ollama: bool, types: Mapping[str, TypeFacts]) -> Config:
    """The config where there is no file. Raises ConfigError where the environment names a default
    host that is none.
    """
    return Config(
        server=ServerConfig(http=default_http(environ)),
        providers=found_providers(environ, found_ollama=found_ollama, types=types),
    )


def default_http(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where HTTP is served if nothing names an address. Raises ConfigError where the environment
    names a default host that is none.
    """
    try:
        return (http_address(f":{DEFAULT_HTTP.rpartition(':')[2]}", host=default_host(environ)),)
    except ValueError as error:
        where = ConfigFault("the environment", None, DEFAULT_HOST, expected="a host", hint=str(error))
        raise ConfigError([where]) from None


def found_providers(
    environ: Mapping[str, str], *, found_ollama: bool, types: Mapping[str, TypeFacts]
) -> tuple[ProviderConfig, ...]:
    """One provider for each type whose usual variable holds a key, then Ollama where one listens,
    then the demo.
    """
    found: list[ProviderConfig] = []
    for name, facts in types.items():
        # A type that needs no key may name a variable too: it says nothing of whether the service
        # runs here.
        if not facts.needs_key or facts.needs_base_url or not (key := _key(environ, facts)):
            continue
        found.append(
            ProviderConfig(
                name=name, type=name, base_url=_base(facts), api_key=(Secret(key),), priority=KEY_PRIORITY
            )
        )
    if found_ollama and OLLAMA in types:
        url = ollama_url(environ, types=types)
        found.append(ProviderConfig(name=OLLAMA, type=OLLAMA, base_url=url, priority=OLLAMA_PRIORITY))
    if DEMO in types:
        found.append(
            ProviderConfig(name=DEMO, type=DEMO, base_url=_base(types[DEMO]), priority=DEMO_PRIORITY)
        )
    return tuple(found)


def describe(config: Config, *, types: Mapping[str, TypeFacts]) -> tuple[str, ...]:
    """A line for each of `found_providers`, for the person who gave no config."""
    lines: list[str] = []
    for provider in config.providers:
        variable = types[provider.type].key_env if provider.type in types else None
        if provider.type == DEMO:
            lines.append(f"{provider.name}: built in and offline, for first steps; its answers are made up")
        elif provider.api_key and variable:
            lines.append(f"{provider.name}: its key is in {variable}")
        else:
            lines.append(f"{provider.name}: listens at {provider.base_url}")
    return tuple(lines)


def ollama_url(environ: Mapping[str, str], *, types: Mapping[str, TypeFacts]) -> str:
    """Where an Ollama would be: at OLLAMA_HOST, read as Ollama's own client reads it, else at its
    usual port.

    Source: https://docs.ollama.com/faq, "How do I configure Ollama server?"
    """
    usual = _base(types[OLLAMA]) if OLLAMA in types else ""
    given = environ.get("OLLAMA_HOST", "").strip().strip("\"'")
    scheme, colons, rest = given.partition("://")
    if not colons:
        scheme, rest = "http", given
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or (_OLLAMA_PORT if not colons else {"http": 80, "https": 443}[scheme])
    except (ValueError, KeyError):
        return usual
    host = parts.hostname
    if not given or not host or parts.username or parts.password:
        return usual
    # A server is told to listen on every address by the same variable; a client reaches it on this
    # machine.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _base(facts: TypeFacts) -> str:
    return (facts.default_base_url or "").rstrip("/")


def _key(environ: Mapping[str, str], facts: TypeFacts) -> str:
    """A key that can be sent in a header, else nothing."""
    key = environ.get(facts.key_env, "").strip() if facts.key_env else ""
    return key if key.isascii() and key.isprintable() else ""
