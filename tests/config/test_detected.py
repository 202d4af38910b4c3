"""The providers of a config without any: keys in the environment, an Ollama, the demo."""

import pytest

from modelplex.config import (
    config_without_file,
    describe,
    ollama_url,
    provider_types,
)
from modelplex.config.address import provider_url
from tests.config.configs import KEY, TYPES


def test_keys_then_an_ollama_then_the_demo_are_detected() -> None:
    environ = {
        "GROQ_API_KEY": KEY,
        "OPENAI_API_KEY": KEY,
        "ANTHROPIC_API_KEY": " ",
        "AZURE_OPENAI_API_KEY": KEY,
    }
    config = config_without_file(environ, found_ollama=True, types=TYPES)
    assert [(one.name, one.base_url) for one in config.providers] == [
        ("openai", "https://api.openai.com/v1"),
        ("groq", "https://api.groq.com/openai/v1"),
        ("ollama", "http://127.0.0.1:11434"),
        ("demo", ""),
    ]
    priorities = [one.priority for one in config.providers]
    assert priorities == sorted(priorities)
    assert priorities[-1] > priorities[-2] > priorities[0]
    assert config.path is None
    assert describe(config, types=TYPES) == (
        "openai: its key is in OPENAI_API_KEY",
        "groq: its key is in GROQ_API_KEY",
        "ollama: listens at http://127.0.0.1:11434",
        "demo: built in and offline, for first steps; its responses are made up",
    )


def test_the_demo_is_always_there() -> None:
    environ = {"OPENAI_API_KEY": "not\x07sendable", "OLLAMA_API_KEY": KEY}
    config = config_without_file(environ, found_ollama=False, types=TYPES)
    assert [provider.name for provider in config.providers] == ["demo"]


@pytest.mark.parametrize(
    ("given_host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:5", "http://127.0.0.1:5"),
        ("box", "http://box:11434"),
        ("https://box", "https://box:443"),
        ("http://box:99/", "http://box:99"),
        ("[::1]:7", "http://[::1]:7"),
        ("u:p@box", "http://127.0.0.1:11434"),
        ("box:notaport", "http://127.0.0.1:11434"),
        ("ftp://box", "http://127.0.0.1:11434"),
    ],
)
def test_the_address_of_an_ollama_is_that_of_its_own_client(given_host: str, url: str) -> None:
    assert ollama_url({"OLLAMA_HOST": given_host}, types=TYPES) == url


def test_detected_providers_of_the_catalog_are_valid() -> None:
    types = provider_types()
    environ = {facts.key_env: KEY for facts in types.values() if facts.key_env}
    config = config_without_file(environ, found_ollama=True, types=types)
    names = [provider.name for provider in config.providers]
    assert len(names) == len(set(names)) == len(describe(config, types=types))
    assert {"openai", "anthropic", "ollama", "demo"} <= set(names)
    for provider in config.providers:
        assert not provider.base_url or provider_url(provider.base_url) == provider.base_url
