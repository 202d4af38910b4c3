"""Names become candidates."""

import pytest

from modelplex.errors import UnknownModel
from modelplex.route.aliases import Candidate, Directory, Served, resolve

OPENAI = Served("openai", names=frozenset({"gpt-4", "gpt-3.5-turbo"}))
SPARE = Served("spare", names=frozenset({"gpt-4"}), patterns=("llama-*",))
ROUTER = Served("router", configured=False, listed=frozenset({"meta/llama-3", "gpt-4"}))
SILENT = Served("silent", configured=False, listed=None)


def pairs(directory: Directory, name: str) -> list[tuple[str, str]]:
    return [(c.provider, c.model) for c in resolve(directory, name)]


def test_a_model_goes_to_every_provider_that_serves_it_in_order() -> None:
    assert pairs(Directory((OPENAI, SPARE, ROUTER)), "gpt-4") == [
        ("openai", "gpt-4"),
        ("spare", "gpt-4"),
        ("router", "gpt-4"),
    ]


def test_a_glob_serves_what_it_matches() -> None:
    assert pairs(Directory((OPENAI, SPARE)), "llama-70b") == [("spare", "llama-70b")]


def test_a_provider_can_be_named_and_then_only_that_one_is_tried() -> None:
    assert pairs(Directory((OPENAI, SPARE)), "spare/gpt-4") == [("spare", "gpt-4")]


def test_a_name_with_a_slash_that_a_provider_lists_is_a_model_first() -> None:
    meta = Served("meta", names=frozenset({"llama-3"}))
    assert pairs(Directory((meta, ROUTER)), "meta/llama-3") == [("router", "meta/llama-3")]


def test_a_named_provider_does_not_serve_what_its_config_leaves_out() -> None:
    with pytest.raises(UnknownModel):
        resolve(Directory((OPENAI,)), "openai/gpt-5")


def test_the_prefix_modelplex_is_stripped_unless_it_belongs_to_the_name() -> None:
    own = Served("own", names=frozenset({"modelplex-x"}))
    assert pairs(Directory((OPENAI, own)), "modelplex-gpt-4") == [("openai", "gpt-4")]
    assert pairs(Directory((OPENAI, own)), "modelplex-x") == [("own", "modelplex-x")]


def test_an_alias_lists_its_targets_in_order_and_each_once() -> None:
    directory = Directory((OPENAI, SPARE), {"best": ("spare/gpt-4", "gpt-4", "openai/gpt-3.5-turbo")})
    assert pairs(directory, "best") == [("spare", "gpt-4"), ("openai", "gpt-4"), ("openai", "gpt-3.5-turbo")]
    assert pairs(directory, "modelplex-best")[0] == ("spare", "gpt-4")


def test_an_unknown_model_is_answered_with_near_names() -> None:
    with pytest.raises(UnknownModel, match=r"gpt-4") as caught:
        resolve(Directory((OPENAI, SPARE)), "gtp-4")
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


def test_a_provider_that_could_not_be_asked_is_tried_only_where_nobody_is_sure() -> None:
    assert pairs(Directory((SILENT, OPENAI)), "gpt-4") == [("openai", "gpt-4")]
    assert resolve(Directory((SILENT, OPENAI)), "who-knows") == (Candidate("silent", "who-knows"),)
    assert pairs(Directory((SILENT,)), "silent/who-knows") == [("silent", "who-knows")]


def test_listings_name_every_model_once_with_the_provider_that_comes_first() -> None:
    patterned = Served("p", patterns=("gpt-*",), listed=frozenset({"gpt-9", "other"}))
    known = Directory((OPENAI, patterned, ROUTER), {"best": ("gpt-4",)}).known()
    assert known == {
        "best": "",
        "gpt-3.5-turbo": "openai",
        "gpt-4": "openai",
        "gpt-9": "p",
        "meta/llama-3": "router",
    }


def test_a_provider_without_any_model_says_so() -> None:
    with pytest.raises(UnknownModel, match="no provider has named a model yet"):
        resolve(Directory(()), "x")


def test_an_alias_may_be_a_pattern_and_takes_only_what_no_name_takes() -> None:
    directory = Directory(
        (OPENAI, SPARE),
        {"claude-*": ("openai/gpt-4",), "gpt-?": ("spare/gpt-4",), "*": ("openai/gpt-3.5-turbo",)},
    )
    assert pairs(directory, "claude-haiku-4-5") == [("openai", "gpt-4")]
    assert pairs(directory, "gpt-4")[0] == ("openai", "gpt-4")
    assert pairs(directory, "gpt-9") == [("spare", "gpt-4")]
    assert pairs(directory, "modelplex-anything/at-all") == [("openai", "gpt-3.5-turbo")]
    assert not any("*" in name for name in directory.known())
