"""Which models are sent a prompt_cache_breakpoint, and with which lifetime."""

import pytest

from modelplex.core.request import Attempt, CacheBreakpoint, Place, Quirks, TextPart
from modelplex.dialects.core.cache_breakpoints import MEMBER, breakpoint_of, takes_breakpoints

TAKES = Quirks(cache_breakpoints=True)


def _attempt(model: str, quirks: Quirks = TAKES) -> Attempt:
    return Attempt(provider="p", model=model, dialect="openai_chat", quirks=quirks)


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("gpt-5.6", True),
        ("gpt-5.6-sol", True),
        ("gpt-5.10", True),
        ("gpt-6", True),
        ("openai/gpt-6.1-mini", True),
        ("gpt-5.5", False),
        ("gpt-5", False),
        ("gpt-4o", False),
        ("my-gpt-7", False),
        ("claude-opus-5", False),
    ],
)
def test_only_the_newest_models_take_one(model: str, takes: bool) -> None:
    assert takes_breakpoints(_attempt(model)) == takes
    assert not takes_breakpoints(_attempt(model, Quirks())), "and only of a service that has them"


@pytest.mark.parametrize(
    ("ttl", "written"),
    [(None, None), ("5m", None), ("1h", "12h"), ("30m", "30m"), ("12h", "12h"), ("2h", None)],
)
def test_no_lifetime_is_made_up(ttl: str | None, written: str | None) -> None:
    found = breakpoint_of(CacheBreakpoint(ttl), TextPart("a"), _attempt("gpt-6"), native=False)
    assert found == ({"mode": "explicit", "ttl": written} if written else {"mode": "explicit"})


def test_a_client_of_the_providers_own_dialect_decides_itself() -> None:
    part = TextPart("a", at=Place(members={"cache": MEMBER}))
    old = _attempt("gpt-4o", Quirks())
    assert breakpoint_of(CacheBreakpoint("30m"), part, old, native=True) == {"mode": "explicit", "ttl": "30m"}
    assert breakpoint_of(CacheBreakpoint("30m"), part, old, native=False) is None
