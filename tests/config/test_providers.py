"""The table [[providers]]: keys, addresses, quirks."""

from typing import Any, cast

import msgspec
import pytest

from modelplex.config import (
    ConfigError,
    Secret,
    parse,
    provider_types,
)
from modelplex.core.request import Quirks
from tests.config.configs import KEY, fault, faults, read


def test_the_usual_variable_holds_the_key_by_default() -> None:
    (provider,) = read('[[providers]]\nname = "groq"', GROQ_API_KEY=f"{KEY}\n").providers
    assert (provider.type, provider.api_key) == ("groq", (Secret(KEY),))


def test_the_usual_key_is_not_sent_to_another_origin() -> None:
    text = '[[providers]]\ntype = "openai"\nbase_url = "http://127.0.0.1:8080/v1/"'
    (provider,) = read(text, OPENAI_API_KEY=KEY).providers
    assert (provider.base_url, provider.api_key) == ("http://127.0.0.1:8080/v1", ())


def test_another_path_of_the_usual_origin_takes_the_usual_key() -> None:
    text = '[[providers]]\ntype = "anthropic"\nbase_url = "https://api.anthropic.com/v1"'
    assert read(text, ANTHROPIC_API_KEY=KEY).providers[0].api_key == (Secret(KEY),)


def test_a_type_without_a_default_address_needs_one() -> None:
    assert "providers[0].base_url: expected an address" in faults('[[providers]]\ntype = "azure"')[0]
    text = '[[providers]]\ntype = "azure"\nbase_url = "https://x.openai.azure.com/openai/v1"'
    assert read(text, AZURE_OPENAI_API_KEY=KEY).providers[0].api_key == (Secret(KEY),)
    assert "providers[0].api_key: expected a key, found none" in fault(text)


@pytest.mark.parametrize(
    "url", ["unix:/run/x.sock", "unix:/run/x.sock:/v1", "http://[::1]:80", "https://h/v1"]
)
def test_a_base_url_is_http_https_or_a_socket(url: str) -> None:
    assert read(f'[[providers]]\ntype = "openai"\nbase_url = "{url}"').providers[0].base_url == url


def test_quirks_have_the_types_of_their_fields() -> None:
    text = '[[providers]]\ntype = "demo"\n[providers.quirks]\nrefuses = ["seed"]\ncache_control = true\neffort = ""'
    quirks = read(text).providers[0].quirks
    changed = msgspec.structs.replace(Quirks(), **cast("dict[str, Any]", quirks))
    assert changed == Quirks(refuses=("seed",), cache_control=True, effort="")


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ('[providers]\nname = "x"', "each begins with [[providers]]"),
        ('providers = ["openai"]', "providers[0]: expected a table, found a string"),
        ('providers = "openai"', "as in providers = [ { ... } ]"),
        ("[[providers]]", "expected a name or a type"),
        ("[[providers]]\npriority = 1", "the types are: anthropic, azure, demo, groq, ollama, openai"),
        ('[[providers]]\nname = "a/b"\ntype = "demo"', "a name of letters, digits"),
        ('[[providers]]\ntype = "demo"\nmodels = []', "leave it out to ask the provider"),
        ('[[providers]]\ntype = "demo"\npriority = -1', "providers[0].priority"),
        ('[[providers]]\ntype = "demo"\nverify_tls = "no"', 'found "no"'),
        ('[[providers]]\ntype = "demo"\n[providers.headers]\nHost = "x"', "a header that a config may set"),
        ('[[providers]]\ntype = "demo"\nheaders = {Authorization = "x"}', "the key goes into api_key"),
        ('[[providers]]\ntype = "demo"\nheaders = {"a b" = "x"}', "expected the name of a header"),
        ('[[providers]]\ntype = "demo"\nheaders = {a = "x\\r\\nb: c"}', "not visible ASCII"),
        ('[[providers]]\ntype = "demo"\nquirks = {refuses = "a"}', "expected a list of strings"),
        ('[[providers]]\ntype = "demo"\nquirks = {output_limit = 1}', "expected a string, found 1"),
        ('[[providers]]\ntype = "openai"\nbase_url = "api.openai.com"', "base URL must begin with"),
        ('[[providers]]\ntype = "openai"\nbase_url = "https://h/v1/chat/completions"', "/chat/completions"),
        ('[[providers]]\ntype = "openai"', "or set the environment variable OPENAI_API_KEY"),
    ],
)
def test_a_wrong_value_is_reported_with_the_expected_one(text: str, report: str) -> None:
    assert report in fault(text)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("claude", '"anthropic"'),
        ("google", '"gemini"'),
        ("Google", '"gemini"'),
        ("grok", '"xai"'),
        ("litellm", '"openai"'),
        ("aws", '"bedrock"'),
        ("vertexai", '"vertex"'),
        ("opnai", '"openai"'),
    ],
)
def test_a_type_under_another_name_gets_a_hint(kind: str, hint: str) -> None:
    for text in (f'[[providers]]\ntype = "{kind}"\n', f'[[providers]]\nname = "{kind}"\n'):
        if kind == "opnai" and "name" in text:
            continue
        with pytest.raises(ConfigError) as caught:
            parse(text.encode(), file="config.toml", environ={}, types=provider_types())
        assert hint in caught.value.sentence
