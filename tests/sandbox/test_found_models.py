import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelplex.config import config_without_file, provider_types
from modelplex.config.read import parse
from modelplex.sandbox.found_models import (
    DEFAULTS,
    FoundModel,
    config_text,
    find_model,
    list_ollama,
    mapping_line,
    model_of_config,
)
from modelplex.sandbox.preset import PRESETS, load_preset
from tests.upstreams import answer, provider

TYPES = provider_types()
CLAUDE, CODEX = (load_preset(PRESETS / f"{name}.toml") for name in ("claude", "codex"))


def found(
    environ: Mapping[str, str], *, ollama: list[str] | None = None, preset: object = CLAUDE
) -> FoundModel | None:
    providers = config_without_file(environ, found_ollama=ollama is not None, types=TYPES).providers
    return find_model(providers, preset, types=TYPES, list_ollama=lambda _: ollama or [])  # type: ignore[arg-type]


def test_a_key_of_the_agents_own_provider_comes_first() -> None:
    environ = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    one, other = found(environ), found(environ, preset=CODEX)
    assert one == FoundModel(f"anthropic/{DEFAULTS['anthropic']}", "the key in ANTHROPIC_API_KEY", True)
    assert other == FoundModel(f"openai/{DEFAULTS['openai']}", "the key in OPENAI_API_KEY", True)


def test_then_another_key_then_ollama_then_the_demo() -> None:
    groq = found({"GROQ_API_KEY": "k"}, ollama=["llama3.2:latest", "qwen3"])
    assert groq == FoundModel(f"groq/{DEFAULTS['groq']}", "the key in GROQ_API_KEY", False)
    ollama = found({}, ollama=["llama3.2:latest", "qwen3"])
    assert ollama == FoundModel("ollama/llama3.2:latest", "Ollama at http://localhost:11434", False)
    for demo in (found({}, ollama=[]), found({}), found({"PERPLEXITY_API_KEY": "k"})):
        assert demo == FoundModel("demo/demo", "the built-in demo, whose responses are made up", False)


def test_the_config_maps_every_other_name() -> None:
    config = parse(config_text('a/"b"').encode(), file="c.toml", environ={"OPENAI_API_KEY": "k"}, types=TYPES)
    assert config.aliases == {"*": ('a/"b"',)}
    assert [each.name for each in config.providers] == ["openai", "demo"]


def test_the_line_says_what_goes_where() -> None:
    assert mapping_line("Codex", "gpt-5.5", FoundModel("demo/demo", "the demo", False)) == (
        "there is no config.toml here: Codex's models (gpt-5.5) are mapped to demo/demo: the demo"
    )
    assert mapping_line("Claude Code", "c", FoundModel("anthropic/x", "the key in K", True)) == (
        "there is no config.toml here: Claude Code's models that anthropic does not serve"
        " are mapped to anthropic/x: the key in K"
    )


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_default_has_a_price(name: str) -> None:
    """A model that is gone from the list may be gone from the service too."""
    prices = json.loads((Path(PRESETS).parents[1] / "records" / "prices.json").read_text())
    service = {"gemini": "google", "xai": "x-ai", "moonshot": "moonshotai"}.get(name, name)
    models = next(each["models"] for each in prices["services"] if each["id"] == service)
    assert DEFAULTS[name].removesuffix("-latest") in {model["id"].removesuffix("-latest") for model in models}


async def test_the_models_of_an_ollama_are_listed() -> None:
    import asyncio

    async with provider(answer({"models": [{"name": "b"}, {"name": "a"}]})) as ollama:
        address = ollama.url.removesuffix("/v1")
        assert await asyncio.to_thread(list_ollama, address) == ["b", "a"]
    async with provider(answer({"error": "none"})) as other:
        assert await asyncio.to_thread(list_ollama, other.url.removesuffix("/v1")) == []
    assert list_ollama("http://127.0.0.1:9") == []


OPENAI = '[[providers]]\ntype = "openai"\nname = "o"\napi_key = "k"\n'


@pytest.mark.parametrize(
    ("text", "globs", "model"),
    [
        (OPENAI, (), DEFAULTS["openai"]),
        (OPENAI + 'models = ["gpt-4*", "gpt-4o"]\n', (), "gpt-4o"),
        (OPENAI + 'models = ["claude-*"]\n', (), None),
        (OPENAI + '[aliases]\nbest = "o/gpt-4o"\n', (), "best"),
        (OPENAI + '[aliases]\n"*" = "o/gpt-4o"\n', (), None),
        (OPENAI + '[aliases]\nbest = "o/gpt-4o"\n"*" = "o/gpt-4o"\n', ("best",), "best"),
        (OPENAI + '[aliases]\nbest = "o/gpt-4o"\n', ("gpt-*",), DEFAULTS["openai"]),
        (OPENAI + 'base_url = "http://127.0.0.1:1/v1"\n', (), None),
        ('[[providers]]\ntype = "anthropic"\napi_key = "k"\n', (), None),
        ('[[providers]]\ntype = "demo"\n', (), "demo"),
    ],
)
def test_a_config_without_the_agents_default_names_another(
    text: str, globs: tuple[str, ...], model: str | None
) -> None:
    config = parse(text.encode(), file="c", environ={}, types=TYPES, find_ollama=lambda: False)
    assert model_of_config(config, CLAUDE, globs=globs, types=TYPES) == model
