"""The price list of the package, compared with the library that it is written from."""

import json
import random

import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, Provider

from modelplex.records.price_list import FILE, PriceQuery, bundled
from tests.prices.convert import file, model_of


def test_the_list_is_that_of_the_library_in_the_lock() -> None:
    """`make prices` writes it anew."""
    written = FILE.read_bytes()
    today = json.loads(written)["date"]
    assert written == file(today=today)
    head = bundled().file
    assert head.source == "https://github.com/pydantic/genai-prices"
    assert head.licence.startswith("The MIT License")


def test_the_list_holds_every_model_as_it_was_read() -> None:
    assert [service.id for service in bundled().file.services] == [one.id for one in get_snapshot().providers]
    for service, provider in zip(bundled().file.services, get_snapshot().providers, strict=True):
        lines = msgspec.json.decode(service.models, type=list[msgspec.Raw])
        kept = [msgspec.json.decode(line, type=type(model_of(provider.models[0]))) for line in lines]
        assert kept == [model_of(model) for model in provider.models]


def names_of(model: ModelInfo) -> list[str]:
    """Names by which a model may be asked for: its own, and texts of its rules."""
    found, waiting = [model.id], [model.match]
    while waiting:
        each = waiting.pop()
        for member in ("or_", "and_"):
            waiting += getattr(each, member, [])
        for member in ("equals", "starts_with", "ends_with", "contains"):
            if text := getattr(each, member, None):
                found += [text, f"{text}-20251211", text.upper()]
    return found


def their_answer(name: str, provider: Provider) -> ModelInfo | None:
    return provider.find_model(name, all_providers=get_snapshot().providers)


def test_a_look_up_finds_what_the_library_finds() -> None:
    found = missed = 0
    providers = get_snapshot().providers
    sample = {name for provider in providers for model in provider.models for name in names_of(model)}
    dice = random.Random(7)
    for provider in providers:
        names = {name for model in provider.models for name in names_of(model)}
        names |= set(dice.sample(sorted(sample), 40)) | {"no-such-model-at-all", "GPT-4o-2024-08-06"}
        models = {id(model): model_of(model) for seller in providers for model in seller.models}
        # Each look-up reads the service's models: a part of the large ones is enough.
        for name in dice.sample(sorted(names), min(len(names), 80)):
            theirs = their_answer(name, provider)
            ours = bundled().find(PriceQuery(name, service=provider.id))
            assert (ours is None) == (theirs is None), f"{provider.id} {name}"
            if ours is None or theirs is None:
                missed += 1
                continue
            found += 1
            expected = models[id(theirs)]
            assert ours.model == expected.id, f"{provider.id} {name}"
            assert len(ours.periods) == len(expected.periods)
            assert ours.periods[0].prices == expected.periods[0].prices.per_piece()
    assert found > 1000
    assert missed > 300


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://openrouter.ai/api/v1",
        "https://x.openai.azure.com/openai",
        "https://api.anthropic.com",
        "https://llm.example.com/v1",
        "https://router.huggingface.co/groq/v1",
    ],
)
def test_an_address_means_the_service_that_the_library_means(url: str) -> None:
    for name in ("gpt-4o", "openai/gpt-4o", "claude-sonnet-4-5", "llama-3.3-70b-versatile", "none"):
        try:
            provider, model = get_snapshot().find_provider_model(name, None, None, url)
        except LookupError:
            assert bundled().find(PriceQuery(name, url=url)) is None
        else:
            ours = bundled().find(PriceQuery(name, url=url))
            assert ours is not None
            assert ours.model == model.id
            assert bundled().has_service(PriceQuery("", service=provider.id))
