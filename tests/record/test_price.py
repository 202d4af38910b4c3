import random
import subprocess
import threading
import time
from datetime import UTC, datetime

import msgspec
import pytest

from modelplex.event import Usage
from modelplex.record import price, pricelist
from modelplex.record.price import Prices, told_cost, total, whom_to_ask
from modelplex.record.pricelist import Period, Price, Question, Table
from modelplex.record.pricelist import Prices as Row

WAIT_S = 30.0
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()

SIMPLE = Table("s", "m", (Period(Row(input=Price(1e-6), output=Price(2e-6))),))


def knowing(table: Table | None) -> Prices:
    """Prices that have one and the same answer to every question, and have it already for (openai, m)."""
    prices = Prices(ask=lambda questions: [table] * len(questions))
    prices.learn("openai", "m")
    assert prices.settle(WAIT_S)
    return prices


# --- the library itself ------------------------------------------------------------------------------------------------------------


def test_a_price_is_looked_up_in_another_process_and_is_known_soon_after() -> None:
    prices = Prices()
    usage = Usage(fresh=1000, output=100)
    assert prices.cost("openai", "gpt-4o", usage) is None
    assert prices.settle(WAIT_S)
    assert prices.cost("openai", "gpt-4o", usage, at=NOON) == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)


def test_cached_input_has_its_own_price_and_is_counted_once() -> None:
    (table,) = pricelist.answer([Question("claude-sonnet-4-5", service="anthropic")])
    assert table is not None
    usage = Usage(fresh=1000, cache_read=500, cache_write=300, cache_write_1h=100, output=10)
    expected = 1000 * 3e-6 + 500 * 0.3e-6 + 200 * 3.75e-6 + 100 * 6e-6 + 10 * 15e-6
    assert total(table, usage, at=NOON) == pytest.approx(expected)


def test_our_sum_is_the_librarys_for_every_model_that_it_knows() -> None:
    from genai_prices import Usage as TheirUsage
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import ModelPrice

    dice = random.Random(4)
    when = datetime(2026, 11, 20, 3, 30, tzinfo=UTC)
    compared = 0
    for provider in get_snapshot().providers:
        for model in provider.models:
            table = pricelist.table_of(provider.id, model)
            usage = Usage(
                fresh=dice.choice([0, 7, 1000, 300_000]),
                cache_read=dice.choice([0, 3, 9000]),
                cache_write=(written := dice.choice([0, 5, 800])),
                cache_write_1h=dice.choice([0, written]),
                output=(out := dice.choice([1, 4000])),
                reasoning=dice.choice([0, out // 2]),
            )
            tier = dice.choice([None, "priority", "flex"])
            ours = total(table, usage, tier=tier, at=when.timestamp())
            prices = model.get_prices(when)
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
                ),
                provider,
                genai_request_timestamp=when,
                price_context={"service_tier": tier} if tier else None,
            )
            assert ours == pytest.approx(float(theirs.total_price)), (
                f"{provider.id} {model.id} {usage} {tier}"
            )
            compared += 1
    assert compared > 1000


def test_a_table_survives_the_pipe() -> None:
    questions = [
        Question("deepseek-chat", service="deepseek"),
        Question("gpt-5", url="https://api.openai.com/v1"),
    ]
    here = pricelist.answer(questions)
    assert price.ask_library(questions) == here
    assert None not in here


@pytest.mark.parametrize(
    "question",
    [
        Question("no-such-model-at-all", service="openai"),
        Question("gpt-4o", service="no-such-service"),
        Question("gpt-4o", url="https://llm.example.com/v1"),
    ],
)
def test_what_the_library_does_not_know_has_no_price(question: Question) -> None:
    assert pricelist.answer([question]) == [None]


def test_the_child_sees_none_of_our_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    seen: dict[str, str] = {}

    def run(*_: object, env: dict[str, str], **__: object) -> subprocess.CompletedProcess[bytes]:
        seen.update(env)
        return subprocess.CompletedProcess([], 0, stdout=b"[null]")

    monkeypatch.setattr(subprocess, "run", run)
    assert price.ask_library([Question("m")]) == [None]
    assert seen
    assert "OPENAI_API_KEY" not in seen


# --- whose price -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider_type", "base_url"),
    [
        ("ollama", None),
        ("ollama", "https://ollama.example.com"),
        ("demo", None),
        ("llama.cpp", "https://gpu.example.com/v1"),
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
    assert whom_to_ask(provider_type, "gpt-4o", base_url) is None
    prices = knowing(SIMPLE)
    assert prices.cost(provider_type, "gpt-4o", Usage(fresh=1), base_url) is None


@pytest.mark.parametrize(
    ("provider_type", "base_url", "asked"),
    [
        ("openai", None, Question("gpt-4o", service="openai")),
        ("openai", "https://openrouter.ai/api/v1", Question("gpt-4o", url="https://openrouter.ai/api/v1")),
        ("openai", "", Question("gpt-4o", service="openai")),
        ("groq", None, Question("gpt-4o", service="groq")),
        ("groq", "https://proxy.example.com", Question("gpt-4o", service="groq")),
        ("xai", None, Question("gpt-4o", service="x-ai")),
        ("gemini", None, Question("gpt-4o", service="google")),
    ],
)
def test_a_dialects_prices_go_by_the_address_and_a_services_by_its_name(
    provider_type: str, base_url: str | None, asked: Question
) -> None:
    assert whom_to_ask(provider_type, "GPT-4o", base_url) == asked


# --- how much ----------------------------------------------------------------------------------------------------------------------


def test_tokens_without_a_price_make_the_cost_unknown_and_not_nothing() -> None:
    only_input = Table("s", "m", (Period(Row(input=Price(1e-6))),))
    assert total(only_input, Usage(fresh=5), at=NOON) == pytest.approx(5e-6)
    assert total(only_input, Usage(fresh=5, output=1), at=NOON) is None
    assert total(Table("s", "m", (Period(Row()),)), Usage(), at=NOON) is None


def test_a_long_input_makes_every_token_dearer() -> None:
    table = Table("s", "m", (Period(Row(input=Price(1.0, ((100, 2.0),)), output=Price(1.0, ((100, 3.0),)))),))
    assert total(table, Usage(fresh=50, cache_read=50, output=1), at=NOON) == 101
    assert total(table, Usage(fresh=51, cache_read=50, output=1), at=NOON) == 205


def test_the_last_period_that_holds_gives_the_price() -> None:
    rows = [Row(input=Price(float(n)), output=Price(0)) for n in (1, 2, 3)]
    night = (22 * 3600, 2 * 3600)
    table = Table("s", "m", (Period(rows[0]), Period(rows[1], start=NOON), Period(rows[2], daily=night)))
    one = Usage(fresh=1)
    assert total(table, one, at=NOON - 1) == 1
    assert total(table, one, at=NOON) == 2
    assert total(table, one, at=NOON + 10.5 * 3600) == 3
    assert total(table, one, at=NOON + 13.5 * 3600) == 3
    assert total(table, one, at=NOON + 14 * 3600) == 2


def test_a_service_tier_changes_the_prices_that_it_names() -> None:
    fast = Period(Row(output=Price(9.0)), tier="priority")
    table = Table("s", "m", (Period(Row(input=Price(1.0), output=Price(2.0))),), (fast,))
    usage = Usage(fresh=1, output=1)
    assert total(table, usage, at=NOON) == 3
    assert total(table, usage, tier="priority", at=NOON) == 10
    assert total(table, usage, tier="default", at=NOON) == 3


def test_an_estimate_of_tokens_has_no_cost() -> None:
    assert knowing(SIMPLE).cost("openai", "m", Usage(fresh=1)) == pytest.approx(1e-6)
    assert knowing(SIMPLE).cost("openai", "m", Usage(fresh=1, estimated=True)) is None


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
    assert told_cost(Usage(raw=msgspec.Raw(raw))) == (None if cost is None else pytest.approx(cost))


def test_what_the_provider_says_wins_over_the_table() -> None:
    usage = Usage(fresh=1000, raw=msgspec.Raw(b'{"cost":7}'))
    assert knowing(SIMPLE).cost("openai", "m", usage) == 7
    assert knowing(None).cost("ollama", "m", usage) == 7


# --- looking up --------------------------------------------------------------------------------------------------------------------


def test_each_model_is_asked_for_once_and_unknown_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price, "PAUSE_S", 0.0)
    asked: list[str] = []

    def ask(questions: list[Question]) -> list[Table | None]:
        asked.extend(question.model for question in questions)
        return [None for _ in questions]

    prices = Prices(ask=ask)
    for model in ("a", "b", "a", "b"):
        assert prices.cost("openai", model, Usage(fresh=1)) is None
        assert prices.settle(WAIT_S)
    assert asked == ["a", "b"]


def test_the_caller_never_waits_for_a_slow_look_up() -> None:
    release = threading.Event()

    def ask(questions: list[Question]) -> list[Table | None]:
        assert release.wait(WAIT_S)
        return [SIMPLE for _ in questions]

    prices = Prices(ask=ask)
    prices.learn("openai", "m")
    assert prices.cost("openai", "m", Usage(fresh=1)) is None
    assert "asking" in repr(prices)
    release.set()
    assert prices.settle(WAIT_S)
    assert prices.cost("openai", "m", Usage(fresh=1)) == pytest.approx(1e-6)


def test_a_machine_that_cannot_look_up_stops_trying_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price, "PAUSE_S", 0.0)
    tries = 0

    def ask(_: list[Question]) -> list[Table | None]:
        nonlocal tries
        tries += 1
        raise subprocess.TimeoutExpired("python", 1)

    prices = Prices(ask=ask)
    prices.learn("openai", "m")
    assert prices.settle(WAIT_S)
    assert prices.failure == "prices cannot be looked up: TimeoutExpired"
    assert prices.cost("openai", "n", Usage(fresh=1)) is None
    assert tries == price.FAILURES_LIMIT


def test_made_up_model_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price, "KNOWN_LIMIT", 8)
    monkeypatch.setattr(price, "ASKED_LIMIT", 4)
    monkeypatch.setattr(price, "PAUSE_S", 0.0)
    most = 0

    def ask(questions: list[Question]) -> list[Table | None]:
        nonlocal most
        most = max(most, len(questions))
        return [None for _ in questions]

    prices = Prices(ask=ask)
    for number in range(100):
        prices.learn("openai", f"m{number}")
    assert prices.settle(WAIT_S)
    assert most <= 4
    for number in range(100, 120):
        prices.learn("openai", f"m{number}")
        assert prices.settle(WAIT_S)
    assert repr(prices) == "<Prices 8 known, 0 asked for, idle>"


def test_after_close_nothing_is_looked_up() -> None:
    prices = Prices(ask=lambda _: pytest.fail("asked"))
    prices.close()
    prices.learn("openai", "m")
    assert prices.settle(WAIT_S)
    assert prices.cost("openai", "m", Usage(fresh=1), at=time.time()) is None
