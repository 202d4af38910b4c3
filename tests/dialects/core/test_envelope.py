from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from modelplex.core.request import OpaqueState
from modelplex.dialects.core.envelope import MARK, unwrap, wrap
from modelplex.dialects.core.tool_names import alias

words = st.text()
maybe = st.none() | words


@given(st.builds(OpaqueState, format=words, data=words, provider=maybe, account=maybe, model=maybe, id=maybe))
@settings(deadline=None)
def test_a_seal_comes_back_as_it_was(state: OpaqueState) -> None:
    text = wrap(state)
    assert text.startswith(MARK)
    assert set(text[len(MARK) :]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert unwrap(text) == state


def test_what_is_no_envelope_is_left_alone() -> None:
    whole = wrap(OpaqueState(format="anthropic-claude-v1", data="EqRkc2Fm+/==", provider="anthropic"))
    for text in (
        "",
        "EqRkc2Fm",
        "mpx1.",
        "mpx1.!!",
        "mpx1.AAAA",
        whole[:-5],
        "mpx2" + whole[4:],
    ):
        assert unwrap(text) is None


@given(st.text())
@settings(deadline=None)
def test_an_alias_is_a_name_that_every_provider_accepts(name: str) -> None:
    assert 1 <= len(alias(name)) <= 64
    assert alias(alias(name)) == alias(name)
    assert alias(name).replace("_", "a").replace("-", "a").isalnum()


def test_an_accepted_name_is_its_own_alias() -> None:
    assert alias("read_file-2") == "read_file-2"


def test_long_names_with_the_same_beginning_get_aliases_of_their_own() -> None:
    first, second = "x" * 70 + "1", "x" * 70 + "2"
    assert alias(first) != alias(second)
    assert alias(first) == alias(first)
    assert alias("a.b") != alias("a/b")
