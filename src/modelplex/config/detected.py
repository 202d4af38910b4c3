"""The providers that are used where a config names none: those with a key in the environment,
Ollama, and the demo.

No I/O: the environment, and whether an Ollama listens, are arguments.
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
"""Last: its made-up responses must not replace real ones."""

_OLLAMA_PORT: Final = 11434


def config_without_file(
    environ: Mapping[str, str], *, found_ollama: bool, types: Mapping[str, TypeFacts]
) -> Config:
    """Raises ConfigError where the environment names an invalid default host."""
    return Config(
        server=ServerConfig(http=default_http(environ)),
        providers=found_providers(environ, found_ollama=found_ollama, types=types),
    )


def default_http(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The HTTP address if the config names none. Raises ConfigError where the environment names an
    invalid default host.
    """
    try:
        return (http_address(f":{DEFAULT_HTTP.rpartition(':')[2]}", host=default_host(environ)),)
    except ValueError as error:
        fault = ConfigFault("the environment", None, DEFAULT_HOST, expected="a host", hint=str(error))
        raise ConfigError([fault]) from None


def found_providers(
    environ: Mapping[str, str], *, found_ollama: bool, types: Mapping[str, TypeFacts]
) -> tuple[ProviderConfig, ...]:
    """A provider for each type whose usual variable holds a key, then Ollama, then the demo."""
    found = [
        ProviderConfig(
            name=name, type=name, base_url=_base_url(facts), api_key=(Secret(key),), priority=KEY_PRIORITY
        )
        for name, facts in types.items()
        # The variable of a type that needs no key does not say that the service runs here.
        if facts.needs_key and facts.default_base_url and (key := _key(environ, facts))
    ]
    if found_ollama and OLLAMA in types:
        url = ollama_url(environ, types=types)
        found.append(ProviderConfig(name=OLLAMA, type=OLLAMA, base_url=url, priority=OLLAMA_PRIORITY))
    if DEMO in types:
        url = _base_url(types[DEMO])
        found.append(ProviderConfig(name=DEMO, type=DEMO, base_url=url, priority=DEMO_PRIORITY))
    return tuple(found)


def describe(config: Config, *, types: Mapping[str, TypeFacts]) -> tuple[str, ...]:
    """A line for the user about each of `found_providers`."""
    lines: list[str] = []
    for provider in config.providers:
        variable = types[provider.type].key_env if provider.type in types else None
        if provider.type == DEMO:
            lines.append(f"{provider.name}: built in and offline, for first steps; its responses are made up")
        elif provider.api_key and variable:
            lines.append(f"{provider.name}: its key is in {variable}")
        else:
            lines.append(f"{provider.name}: listens at {provider.base_url}")
    return tuple(lines)


def ollama_url(environ: Mapping[str, str], *, types: Mapping[str, TypeFacts]) -> str:
    """The address in OLLAMA_HOST, read as Ollama's own client reads it, else Ollama's usual one.

    Source: https://docs.ollama.com/faq, "How do I configure Ollama server?"
    """
    usual = _base_url(types[OLLAMA]) if OLLAMA in types else ""
    written = environ.get("OLLAMA_HOST", "").strip().strip("\"'")
    scheme, colons, rest = written.partition("://")
    if not colons:
        scheme, rest = "http", written
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or (_OLLAMA_PORT if not colons else {"http": 80, "https": 443}[scheme])
    except (ValueError, KeyError):
        return usual
    host = parts.hostname
    if not written or not host or parts.username or parts.password:
        return usual
    # The same variable makes a server listen on all addresses; a client then uses loopback.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _base_url(facts: TypeFacts) -> str:
    return (facts.default_base_url or "").rstrip("/")


def _key(environ: Mapping[str, str], facts: TypeFacts) -> str:
    """A key that can be sent in a header, else ""."""
    key = environ.get(facts.key_env, "").strip() if facts.key_env else ""
    return key if key.isascii() and key.isprintable() else ""
