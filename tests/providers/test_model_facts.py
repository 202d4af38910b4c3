"""Facts about models, by name and dialect."""

import datetime as dt
import tomllib

import msgspec
import pytest

from modelplex.core.request import ModelFacts
from modelplex.providers import read_package_file
from modelplex.providers.model_facts import model_facts, normalized_name, read_entries

THINKING = {
    "claude-3-haiku-20240307": "none",
    "claude-3-5-sonnet-20241022": "none",
    "claude-3-7-sonnet-latest": "manual",
    "claude-opus-4-20250514": "manual",
    "claude-sonnet-4-0": "manual",
    "claude-opus-4-1-20250805": "manual",
    "claude-sonnet-4-5-20250929": "manual",
    "claude-haiku-4-5": "manual",
    "claude-opus-4-6": "both",
    "claude-sonnet-4-6": "both",
    "claude-opus-4-7": "adaptive",
    "claude-opus-4-8": "adaptive",
    "claude-sonnet-5": "adaptive",
    "claude-opus-5": "adaptive",
    "claude-opus-5-5": "adaptive",
    "claude-fable-5-1": "adaptive",
    "claude-mythos-5-2": "adaptive",
    "claude-of-a-later-day-9": "adaptive",
}


@pytest.mark.parametrize(("model", "thinking"), THINKING.items())
def test_each_generation_of_claude_thinks_in_its_way(model: str, thinking: str) -> None:
    known = model_facts(model, "anthropic_messages")
    assert known.thinking == thinking
    assert known.prefill == (thinking in {"none", "manual"})
    assert known.sampling == (thinking != "adaptive")


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-haiku-20240307", 4096),
        ("claude-3-5-haiku-latest", 8192),
        ("claude-opus-4-0", 32000),
        ("claude-sonnet-4-20250514", 64000),
        ("claude-opus-4-5", 64000),
        ("claude-opus-4-6", 128000),
        ("claude-haiku-5-5", 128000),
    ],
)
def test_the_greatest_output_is_known(model: str, limit: int) -> None:
    assert model_facts(model, "anthropic_messages").max_output == limit


@pytest.mark.parametrize(
    ("model", "can_stop", "can_force", "later_system"),
    [
        ("claude-opus-4-7", True, True, False),
        ("claude-opus-4-8", True, True, True),
        ("claude-opus-5", True, True, True),
        ("claude-opus-5-5", False, False, True),
        ("claude-fable-5", False, True, True),
        ("claude-fable-5-2", False, False, True),
        ("claude-sonnet-5-5", False, False, True),
        ("claude-of-a-later-day-9", False, False, False),
    ],
)
def test_what_the_newest_refuse_is_known(
    model: str, *, can_stop: bool, can_force: bool, later_system: bool
) -> None:
    known = model_facts(model, "anthropic_messages")
    assert (known.can_disable_thinking, known.forced_tools, known.later_system) == (
        can_stop,
        can_force,
        later_system,
    )


@pytest.mark.parametrize(
    ("model", "effort", "between_tools"),
    [
        ("claude-opus-5", "high", False),
        ("claude-haiku-5-5", "high", False),
        ("claude-sonnet-5-5", "high", True),
        ("claude-opus-4-8", "max", False),
    ],
)
def test_the_effort_without_thinking_is_known(model: str, effort: str, *, between_tools: bool) -> None:
    known = model_facts(model, "anthropic_messages")
    assert (known.effort_without_thinking, known.thinks_between_tools) == (effort, between_tools)


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-1", "claude-opus-4-6"])
def test_newer_models_refuse_temperature_beside_top_p(model: str) -> None:
    assert not model_facts(model, "anthropic_messages").temperature_and_top_p
    assert model_facts("claude-3-7-sonnet-20250219", "anthropic_messages").temperature_and_top_p


@pytest.mark.parametrize(
    "name",
    [
        "claude-opus-4-7",
        "anthropic/claude-opus-4.7",
        "Claude-Opus-4-7",
        "us.anthropic.claude-opus-4-7-v1:0",
    ],
)
def test_one_model_has_many_names(name: str) -> None:
    assert model_facts(name, "anthropic_messages") == model_facts("claude-opus-4-7", "anthropic_messages")


@pytest.mark.parametrize(
    ("model", "sampling", "thinking", "can_stop"),
    [
        ("gpt-4o-2024-08-06", True, "none", True),
        ("gpt-4.1-mini", True, "none", True),
        ("gpt-3.5-turbo", True, "none", True),
        ("gpt-5-chat-latest", True, "none", True),
        ("gpt-5.2-chat-latest", True, "none", True),
        ("gpt-5", False, "adaptive", False),
        ("gpt-5-mini-2025-08-07", False, "adaptive", False),
        ("gpt-5-2025-08-07", False, "adaptive", False),
        ("gpt-5.1", False, "adaptive", True),
        ("gpt-5.4-nano-2026-03-17", False, "adaptive", True),
        ("gpt-6.2-astra", False, "adaptive", True),
        ("o1", False, "adaptive", False),
        ("o4-mini", False, "adaptive", False),
    ],
)
def test_openais_reasoning_models_refuse_sampling(
    model: str, *, sampling: bool, thinking: str, can_stop: bool
) -> None:
    known = model_facts(model, "openai_chat")
    assert (known.sampling, known.thinking, known.can_disable_thinking) == (sampling, thinking, can_stop)


@pytest.mark.parametrize(
    ("model", "dialect"),
    [
        ("llama3.2", "ollama"),
        ("claude-opus-5-5", "openai_chat"),
        ("gpt-5", "anthropic_messages"),
        ("orca", "openai_chat"),
        ("gpt-oss-120b", "openai_chat"),
        ("", "openai_chat"),
    ],
)
def test_nothing_is_made_up_of_a_model_that_is_not_known(model: str, dialect: str) -> None:
    assert model_facts(model, dialect) == ModelFacts()


def test_names_are_compared_without_their_seller() -> None:
    assert normalized_name("openrouter/anthropic/Claude-Opus-4.7") == "claude-opus-4-7"


def test_the_table_is_read_strictly() -> None:
    assert len(read_entries(read_package_file("models.toml"))) > 10
    with pytest.raises(msgspec.ValidationError, match="colour"):
        read_entries(
            b'[[models]]\ndialect = "x"\nmatch = ["*"]\nfacts = {}\nsource = "x"\ndate = 2026-12-01\ncolour = 1'
        )
    for missing in (b'source = "https://x.example"', b"date = 2026-12-01"):
        with pytest.raises(msgspec.ValidationError, match="missing required field"):
            read_entries(b'[[models]]\ndialect = "x"\nmatch = ["*"]\nfacts = {}\n' + missing)


def test_each_entry_says_where_it_is_from_and_when() -> None:
    for entry in read_entries(read_package_file("models.toml")):
        assert entry.source.startswith("https://"), entry.match
        assert entry.date >= dt.date(2026, 12, 1), entry.match


def test_the_table_states_only_facts_that_there_are() -> None:
    known = set(ModelFacts.__struct_fields__)
    for entry in tomllib.loads(read_package_file("models.toml").decode())["models"]:
        assert set(entry["facts"]) <= known
        # A request of a known model is clamped to it: the default is no fact about one.
        assert "max_output" in entry["facts"], entry["match"]


@pytest.mark.parametrize(
    ("model", "thinking", "can_disable", "levels"),
    [
        ("gemini-2.5-pro", "manual", False, ()),
        ("gemini-2.5-flash-lite", "manual", True, ()),
        ("gemini-2.0-flash", "none", True, ()),
        ("gemini-3-pro-preview", "adaptive", False, ("low", "high")),
        ("gemini-3.1-pro-preview", "adaptive", False, ("low", "medium", "high")),
        ("gemini-3.7-flash", "adaptive", False, ("low", "medium", "high")),
        ("gemini-3.1-flash-lite", "adaptive", False, ("minimal", "low", "medium", "high")),
        ("gemini-9-neon", "adaptive", False, ("low", "medium", "high")),
    ],
)
def test_a_gemini_thinks_by_a_budget_to_2_5_and_by_a_level_since(
    model: str, thinking: str, *, can_disable: bool, levels: tuple[str, ...]
) -> None:
    known = model_facts(model, "gemini")
    assert (known.thinking, known.can_disable_thinking, known.levels) == (thinking, can_disable, levels)


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("gpt-4o-mini", 16384),
        ("gpt-4.1-nano", 32768),
        ("gpt-4", 8192),
        ("gpt-4-0613", 8192),
        ("gpt-4-turbo", 4096),
        ("gpt-3.5-turbo", 4096),
        ("gpt-5-chat-latest", 16384),
    ],
)
def test_limits_of_models_that_do_not_reason(model: str, limit: int) -> None:
    found = model_facts(model, "openai_chat")
    assert (found.max_output, found.thinking) == (limit, "none")
