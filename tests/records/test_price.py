"""The cost of a call."""

import random
from datetime import UTC, datetime

import msgspec
import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice

from modelplex.config import PriceConfig
from modelplex.core.events import Iteration, Usage
from modelplex.records import price
from modelplex.records.price import Prices, Seller, price_query, reported_cost, total
from modelplex.records.price_list import Period, Price, PriceQuery, PriceTable, bundled
from modelplex.records.price_list import PriceRow as Row
from tests.prices.convert import model_of

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
NIGHT = datetime(2026, 11, 20, 3, 30, tzinfo=UTC)

OPENAI = Seller("openai", "openai")
SIMPLE = PriceTable("s", "m", (Period(Row(input=Price(1e-6), output=Price(2e-6))),))


def knowing(table: PriceTable | None) -> Prices:
    """Prices that have one and the same answer to every question."""
    return Prices(find=lambda _: table)


def test_our_sum_is_the_librarys_for_every_model_that_it_knows() -> None:
    dice = random.Random(4)
    compared = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            known = model_of(model)
            table = PriceTable(
                provider.id,
                model.id,
                tuple(msgspec.structs.replace(one, prices=one.prices.per_piece()) for one in known.periods),
                tuple(msgspec.structs.replace(one, prices=one.prices.per_piece()) for one in known.tiers),
            )
            # Nobody tells how much of cached input is audio, and the library asks for it.
            cached = dice.choice([True, False])
            usage = Usage(
                fresh=dice.choice([90, 1000, 300_000]),
                cache_read=dice.choice([0, 3, 9000]) if cached else 0,
                cache_write=(written := dice.choice([0, 5, 800]) if cached else 0),
                cache_write_1h=dice.choice([0, written]),
                output=(out := dice.choice([1, 4000])),
                reasoning=dice.choice([0, out // 2]),
                input_audio=0 if cached else dice.choice([0, 40]),
                input_image=0 if cached else dice.choice([0, 50]),
                web_searches=dice.choice([0, 2]),
            )
            tier = dice.choice([None, "priority", "flex"])
            speed = dice.choice([None, "fast"])
            said = {k: v for k, v in (("service_tier", tier), ("speed", speed)) if v is not None}
            ours = total(table, usage, conditions=said, at=NIGHT.timestamp())
            prices = model.get_prices(NIGHT)
            assert isinstance(prices, ModelPrice)
            if ours is None:
                assert prices.input_mtok is None or prices.output_mtok is None
                continue
            theirs = model.calc_price(
                TheirUsage(
                    input_tokens=usage.input,
                    cache_read_tokens=usage.cache_read,
                    cache_write_tokens=usage.cache_write,
                    cache_write_1h_tokens=usage.cache_write_1h,
                    output_tokens=usage.output,
                    output_reasoning_tokens=usage.reasoning,
                    input_audio_tokens=usage.input_audio,
                    input_image_tokens=usage.input_image,
                    web_searches=usage.web_searches,
                ),
                provider,
                genai_request_timestamp=NIGHT,
                price_context=said or None,
            )
            assert ours == pytest.approx(float(theirs.total_price)), (
                f"{provider.id} {model.id} {usage} {said}"
            )
            compared += 1
    assert compared > 1000


def test_prices_that_people_know() -> None:
    prices, claude = Prices(), Seller("claude", "anthropic")
    usage = Usage(fresh=1000, output=100)
    assert prices.cost(OPENAI, "gpt-4o", usage, at=NOON) == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)
    usage = Usage(fresh=1000, cache_read=500, cache_write=300, cache_write_1h=100, output=10)
    expected = 1000 * 3e-6 + 500 * 0.3e-6 + 200 * 3.75e-6 + 100 * 6e-6 + 10 * 15e-6
    assert prices.cost(claude, "claude-sonnet-4-5", usage, at=NOON) == pytest.approx(expected)


@pytest.mark.parametrize(
    "question",
    [
        PriceQuery("no-such-model-at-all", service="openai"),
        PriceQuery("gpt-4o", service="no-such-service"),
        PriceQuery("gpt-4o", url="https://llm.example.com/v1"),
    ],
)
def test_what_the_list_does_not_know_has_no_price(question: PriceQuery) -> None:
    assert bundled().find(question) is None


def test_each_model_is_looked_up_once_and_made_up_names_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(price, "CACHE_LIMIT", 8)
    asked: list[str] = []

    def find(question: PriceQuery) -> PriceTable | None:
        asked.append(question.model)
        return None

    prices = Prices(find=find)
    for model in ("a", "b", "a", "b"):
        assert prices.cost(OPENAI, model, Usage(fresh=1)) is None
    assert asked == ["a", "b"]
    for number in range(100):
        prices.cost(OPENAI, f"m{number}", Usage(fresh=1))
    assert repr(prices) == "<Prices 0 own, 8 cached>"


def test_a_demo_costs_nothing_unless_the_config_says_otherwise() -> None:
    demo = Seller("demo", "demo", "")
    usage = Usage(fresh=1_000, cache_read=5, output=80)
    assert Prices().cost(demo, "demo", usage) == 0.0
    own = PriceConfig(model=("demo",), input=1.0, output=2.0)
    assert Prices([own]).cost(demo, "demo", Usage(fresh=1_000_000)) == 1.0


# --- whose price ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider_type", "base_url"),
    [
        ("ollama", None),
        ("ollama", "https://ollama.example.com"),
        ("llamacpp", "https://gpu.example.com/v1"),
        ("openai", "http://127.0.0.1:8080/v1"),
        ("openai", "http://[::1]:8080/v1"),
        ("openai", "http://10.0.0.7/v1"),
        ("openai", "http://localhost/v1"),
        ("openai", "http://vllm:8000/v1"),
        ("openai", "unix:/run/llm.sock:/v1"),
        ("openai", "http://gpu.local/v1"),
        ("openai", "http://[broken/v1"),
    ],
)
def test_own_machines_have_no_price(provider_type: str, base_url: str | None) -> None:
    assert price_query(provider_type, "gpt-4o", base_url) is None
    seller = Seller("p", provider_type, base_url or "")
    assert knowing(SIMPLE).cost(seller, "gpt-4o", Usage(fresh=1)) is None


@pytest.mark.parametrize(
    ("provider_type", "base_url", "asked"),
    [
        ("openai", None, PriceQuery("gpt-4o", service="openai")),
        ("openai", "https://openrouter.ai/api/v1", PriceQuery("gpt-4o", url="https://openrouter.ai/api/v1")),
        ("openai", "", PriceQuery("gpt-4o", service="openai")),
        ("groq", None, PriceQuery("gpt-4o", service="groq")),
        ("groq", "https://proxy.example.com", PriceQuery("gpt-4o", service="groq")),
        ("xai", None, PriceQuery("gpt-4o", service="x-ai")),
        ("gemini", None, PriceQuery("gpt-4o", service="google")),
    ],
)
def test_a_dialects_prices_go_by_the_address_and_a_services_by_its_name(
    provider_type: str, base_url: str | None, asked: PriceQuery
) -> None:
    assert price_query(provider_type, "GPT-4o", base_url) == asked


# --- how much -------------------------------------------------------------------------------------


def test_tokens_without_a_price_make_the_cost_unknown_and_not_nothing() -> None:
    only_input = PriceTable("s", "m", (Period(Row(input=Price(1e-6))),))
    assert total(only_input, Usage(fresh=5), at=NOON) == pytest.approx(5e-6)
    assert total(only_input, Usage(fresh=5, output=1), at=NOON) is None
    assert total(PriceTable("s", "m", (Period(Row()),)), Usage(), at=NOON) is None


def test_a_long_input_makes_every_token_dearer() -> None:
    table = PriceTable(
        "s", "m", (Period(Row(input=Price(1.0, ((100, 2.0),)), output=Price(1.0, ((100, 3.0),)))),)
    )
    assert total(table, Usage(fresh=50, cache_read=50, output=1), at=NOON) == 101
    assert total(table, Usage(fresh=51, cache_read=50, output=1), at=NOON) == 205


def test_the_last_period_that_holds_gives_the_price() -> None:
    rows = [Row(input=Price(float(n)), output=Price(0)) for n in (1, 2, 3)]
    night = (22 * 3600, 2 * 3600)
    table = PriceTable("s", "m", (Period(rows[0]), Period(rows[1], start=NOON), Period(rows[2], daily=night)))
    one = Usage(fresh=1)
    assert total(table, one, at=NOON - 1) == 1
    assert total(table, one, at=NOON) == 2
    assert total(table, one, at=NOON + 10.5 * 3600) == 3
    assert total(table, one, at=NOON + 13.5 * 3600) == 3
    assert total(table, one, at=NOON + 14 * 3600) == 2


def test_a_service_tier_changes_the_prices_that_it_names() -> None:
    fast = Period(Row(output=Price(9.0)), when={"service_tier": "priority"})
    table = PriceTable("s", "m", (Period(Row(input=Price(1.0), output=Price(2.0))),), (fast,))
    usage = Usage(fresh=1, output=1)
    assert total(table, usage, at=NOON) == 3
    assert total(table, usage, conditions={"service_tier": "priority"}, at=NOON) == 10
    assert total(table, usage, conditions={"service_tier": "default"}, at=NOON) == 3


def test_an_estimate_of_tokens_has_no_cost_and_is_charged() -> None:
    usage = Usage(fresh=1, estimated=True)
    assert knowing(SIMPLE).cost(OPENAI, "m", Usage(fresh=1)) == pytest.approx(1e-6)
    assert knowing(SIMPLE).cost(OPENAI, "m", usage) is None
    assert knowing(SIMPLE).charge(OPENAI, "m", usage) == pytest.approx(1e-6)


def test_parts_of_other_modalities_have_their_own_prices() -> None:
    row = Row(
        input=Price(1.0),
        output=Price(2.0),
        input_audio=Price(10.0),
        output_audio=Price(20.0),
        input_image=Price(5.0),
        output_image=Price(50.0),
        web_search=Price(1000.0),
    )
    usage = Usage(
        fresh=100, output=10, input_audio=30, input_image=20, output_audio=4, output_image=1, web_searches=2
    )
    expected = 50 * 1 + 30 * 10 + 20 * 5 + 5 * 2 + 4 * 20 + 50 + 2000
    assert total(PriceTable("s", "m", (Period(row),)), usage, at=NOON) == expected
    assert total(SIMPLE, usage, at=NOON) == pytest.approx(100e-6 + 20e-6)


def test_each_iteration_is_charged_by_its_own_model_and_its_own_length() -> None:
    """A request with compaction is two samplings, each with its own place in the tiers."""
    opus = "claude-opus-5"
    one = Iteration(fresh=150_000, output=1000)
    other = Iteration(model="claude-haiku-4-5", fresh=150_000, output=1000)
    prices, seller = Prices(), Seller("claude", "anthropic")
    alone = [
        prices.cost(seller, model, Usage(fresh=150_000, output=1000), at=NOON)
        for model in (opus, "claude-haiku-4-5")
    ]
    assert alone[0] is not None
    assert alone[1] is not None
    assert alone[0] > alone[1]
    usage = Usage(fresh=300_000, output=2000, iterations=(one, other))
    assert prices.cost(seller, opus, usage, at=NOON) == pytest.approx(alone[0] + alone[1])
    unknown = msgspec.structs.replace(usage, iterations=(one, Iteration(model="nobody", fresh=1)))
    assert prices.cost(seller, opus, unknown, at=NOON) is None


@pytest.mark.parametrize(
    ("raw", "cost"),
    [
        (b'{"prompt_tokens":1,"cost":0.25}', 0.25),
        (b'{"cost":0}', 0.0),
        (b'{"cost":{"total_cost":0.5,"request_cost":0.1}}', 0.5),
        (b'{"cost":0.01,"is_byok":true,"cost_details":{"upstream_inference_cost":0.2}}', 0.21),
        (b'{"cost":0.01,"is_byok":false,"cost_details":{"upstream_inference_cost":0.2}}', 0.01),
        (b'{"cost":null}', None),
        (b'{"cost":-1}', None),
        (b'{"cost":"much"}', None),
        (b'{"cost":', None),
        (b'{"prompt_tokens":1}', None),
    ],
)
def test_what_the_provider_says_that_it_cost_is_read(raw: bytes, cost: float | None) -> None:
    assert reported_cost(Usage(raw=raw)) == (None if cost is None else pytest.approx(cost))


def test_what_the_provider_says_wins_over_the_list_and_the_config_over_both() -> None:
    usage = Usage(fresh=1000, raw=b'{"cost":7}')
    assert knowing(SIMPLE).cost(OPENAI, "m", usage) == 7
    assert knowing(None).cost(Seller("o", "ollama"), "m", usage) == 7
    own = PriceConfig(model=("m",), input=3.0, output=0.0)
    assert Prices([own]).cost(OPENAI, "m", usage) == pytest.approx(3e-3)
    assert Prices([own]).cost(OPENAI, "n", usage) == 7


# --- prices of the config -------------------------------------------------------------------------


def test_the_first_entry_that_fits_model_and_provider_gives_the_price() -> None:
    own = [
        PriceConfig(model=("llama-*",), provider="other", input=9.0, output=9.0),
        PriceConfig(model=("qwen", "llama-*"), input=1.0, output=2.0, cached_input=0.5, cache_write=4.0),
        PriceConfig(model=("*",), provider="gpu", input=0.0, output=0.0),
    ]
    prices, gpu = Prices(own), Seller("gpu", "openai", "http://10.0.0.7/v1")
    usage = Usage(fresh=1_000_000, cache_read=1_000_000, cache_write=1_000_000, output=1_000_000)
    assert prices.cost(gpu, "llama-3", usage) == pytest.approx(1 + 0.5 + 4 + 2)
    assert prices.cost(Seller("other", "openai"), "llama-3", usage) == pytest.approx(4 * 9)
    assert prices.cost(gpu, "mistral", usage) == 0
    assert prices.cost(Seller("third", "openai", "http://10.0.0.7/v1"), "mistral", usage) is None
    # What is not priced apart is input.
    plain = Prices([PriceConfig(model=("m",), input=1.0, output=2.0)])
    assert plain.cost(gpu, "m", usage) == pytest.approx(1 + 1 + 1 + 2)
