"""Resolving model names to candidates."""

import pytest

from modelplex.core.errors import UnknownModel
from modelplex.routing.aliases import (
    Candidate,
    Directory,
    ServedModels,
    permitted_candidates,
    resolve,
    shadowed_models,
)

OPENAI = ServedModels("openai", names=frozenset({"gpt-4", "gpt-3.5-turbo"}))
SPARE = ServedModels("spare", names=frozenset({"gpt-4"}), patterns=("llama-*",))
ROUTER = ServedModels("router", configured=False, listed=frozenset({"meta/llama-3", "gpt-4"}))
SILENT = ServedModels("silent", configured=False, listed=None)


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


META = ServedModels("meta", names=frozenset({"llama-3"}))
ANY = ServedModels("any", patterns=("*",))


@pytest.mark.parametrize(
    ("served", "name", "expected"),
    [
        # The first part is a configured provider that has the rest.
        ((ROUTER, META), "meta/llama-3", [("meta", "llama-3")]),
        ((ROUTER, META), "modelplex-meta/llama-3", [("meta", "llama-3")]),
        ((ANY, META), "meta/llama-3", [("meta", "llama-3")]),
        # The other provider's model keeps a name.
        ((ROUTER, META), "router/meta/llama-3", [("router", "meta/llama-3")]),
        ((ANY, META), "any/meta/llama-3", [("any", "meta/llama-3")]),
        # A provider that could not be asked may have it: nobody else gets it meanwhile.
        ((ROUTER, ServedModels("meta", configured=False)), "meta/llama-3", [("meta", "llama-3")]),
        ((ANY, ServedModels("meta", configured=False)), "meta/llama-3", [("meta", "llama-3")]),
        # The first part has not the rest: only who is known to serve the whole name gets it.
        (
            (ROUTER, ServedModels("meta", names=frozenset({"x"}))),
            "meta/llama-3",
            [("router", "meta/llama-3")],
        ),
        ((ServedModels("r", names=frozenset({"meta/big"})), META), "meta/big", [("r", "meta/big")]),
        ((ServedModels("r", patterns=("meta/*",)), META), "meta/big", [("r", "meta/big")]),
        # The first part is nobody here: the name is a model's.
        ((ROUTER,), "meta/llama-3", [("router", "meta/llama-3")]),
        ((ANY,), "meta/llama-3", [("any", "meta/llama-3")]),
        # A provider's own names may begin with its name, as OpenRouter's do.
        (
            (ServedModels("or", configured=False, listed=frozenset({"or/auto"})),),
            "or/auto",
            [("or", "or/auto")],
        ),
        (
            (ServedModels("or", patterns=("*",), listed=frozenset({"or/auto"})),),
            "or/auto",
            [("or", "or/auto")],
        ),
        ((ServedModels("or", names=frozenset({"or/auto", "auto"})),), "or/auto", [("or", "auto")]),
        # A provider's name may begin with the prefix that is ignored elsewhere.
        ((ServedModels("modelplex-a", names=frozenset({"m"})), ANY), "modelplex-a/m", [("modelplex-a", "m")]),
        (
            (ServedModels("modelplex-a", names=frozenset({"m"})), ServedModels("a", names=frozenset({"m"}))),
            "modelplex-a/m",
            [("modelplex-a", "m")],
        ),
        (
            (ServedModels("modelplex-a", names=frozenset({"m"})), ServedModels("a", names=frozenset({"m"}))),
            "modelplex-modelplex-a/m",
            [("modelplex-a", "m")],
        ),
        ((ServedModels("a", names=frozenset({"m"})),), "modelplex-a/m", [("a", "m")]),
        # The prefix is ignored for globs that do not spell it.
        ((ANY, META), "modelplex-llama-3", [("any", "llama-3"), ("meta", "llama-3")]),
        (
            (ServedModels("own", patterns=("modelplex-*",)), META),
            "modelplex-llama-3",
            [("own", "modelplex-llama-3")],
        ),
    ],
)
def test_a_name_that_begins_with_a_provider_means_that_provider(
    served: tuple[ServedModels, ...], name: str, expected: list[tuple[str, str]]
) -> None:
    assert pairs(Directory(served), name) == expected
    if not name.startswith("modelplex-"):
        assert pairs(Directory(served, {"alias": (name,)}), "alias") == expected


@pytest.mark.parametrize(
    ("served", "name"),
    [
        ((ANY, META), "meta/llama-9"),
        ((SILENT, META), "meta/llama-9"),
        ((ANY, META), "modelplex-meta/llama-9"),
        (
            (ServedModels("modelplex-a", names=frozenset({"m"})), ServedModels("a", names=frozenset({"n"}))),
            "modelplex-a/n",
        ),
        ((ServedModels("p", patterns=("m*",)), META), "meta/llama-9"),
    ],
)
def test_no_glob_and_no_guess_serves_a_name_that_begins_with_another_provider(
    served: tuple[ServedModels, ...], name: str
) -> None:
    with pytest.raises(UnknownModel):
        resolve(Directory(served), name)


def test_an_alias_comes_before_the_provider_that_its_name_begins_with() -> None:
    directory = Directory((META, OPENAI), {"meta/llama-3": ("openai/gpt-4",), "*": ("gpt-3.5-turbo",)})
    assert pairs(directory, "meta/llama-3") == [("openai", "gpt-4")]
    assert pairs(directory, "meta/llama-9") == [("openai", "gpt-3.5-turbo")]


def test_listings_name_a_model_by_the_name_that_leads_to_it() -> None:
    directory = Directory((ROUTER, META, ANY))
    assert directory.model_names() == {
        "gpt-4": "router",
        "router/meta/llama-3": "router",
        "llama-3": "meta",
    }
    for name, provider in directory.model_names().items():
        assert resolve(directory, name)[0].provider == provider
    assert shadowed_models(directory) == [(Candidate("router", "meta/llama-3"), "router/meta/llama-3")]


@pytest.mark.parametrize(
    ("globs", "listed"),
    [
        (("meta/*",), {"meta/llama-3": "meta"}),
        (("llama-*",), {"llama-3": "meta"}),
        (
            ("router/*",),
            {"router/gpt-4": "router", "router/meta/llama-3": "router", "router/meta/x": "router"},
        ),
        (("nick",), {"nick": ""}),
        (("*/llama-3",), {"router/meta/llama-3": "router", "meta/llama-3": "meta"}),
    ],
)
def test_an_agents_globs_mean_the_provider_that_they_begin_with(
    globs: tuple[str, ...], listed: dict[str, str]
) -> None:
    router = ServedModels("router", configured=False, listed=frozenset({"meta/llama-3", "meta/x", "gpt-4"}))
    directory = Directory((router, META), {"nick": ("router/gpt-4",)})
    assert directory.model_names(globs) == listed
    # `meta/x` is served by the router, and `meta/*` means the provider `meta`.
    found = resolve(directory, "meta/x")
    assert [c.provider for c in found] == ["router"]
    assert permitted_candidates(directory, found, name="meta/x", globs=("meta/*",)) == ()
    assert permitted_candidates(directory, found, name="meta/x", globs=("meta/*", "*")) == found
    assert permitted_candidates(directory, found, name="meta/x", globs=()) == found
    assert (
        permitted_candidates(directory, (Candidate("router", "gpt-4"),), name="nick", globs=("nick",)) != ()
    )


def test_a_named_provider_does_not_serve_what_its_config_leaves_out() -> None:
    with pytest.raises(UnknownModel):
        resolve(Directory((OPENAI,)), "openai/gpt-5")


def test_the_prefix_modelplex_is_stripped_unless_it_belongs_to_the_name() -> None:
    own = ServedModels("own", names=frozenset({"modelplex-x"}))
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
    patterned = ServedModels("p", patterns=("gpt-*",), listed=frozenset({"gpt-9", "other"}))
    known = Directory((OPENAI, patterned, ROUTER), {"best": ("gpt-4",)}).model_names()
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
    assert not any("*" in name for name in directory.model_names())


@pytest.mark.parametrize("targets", [("a",), ("b",), ("nobody/x",)])
def test_an_alias_that_leads_nowhere_is_not_recommended_to_who_asked_for_it(targets: tuple[str, ...]) -> None:
    directory = Directory((ServedModels("p", names=frozenset({"m"})),), {"a": targets, "b": ("a",)})
    with pytest.raises(UnknownModel) as caught:
        resolve(directory, "a")
    assert caught.value.message == (
        "The alias 'a' resolves to no model that a provider serves; `modelplex check` says why."
    )
