"""Bounds of allowed rules: what several bounds and lists of domains have in common."""

from __future__ import annotations

import pytest

from modelplex.core.caller import Bound
from modelplex.policy.bounds import BOUNDABLE, Limit, intersect_domains, limit_for
from modelplex.policy.rules import OPENABLE

DOCS = ("docs.example.com", "example.org")
SEARCH = "web-search"


@pytest.mark.parametrize(
    ("requested", "bound", "common"),
    [
        (["docs.example.com"], DOCS, ("docs.example.com",)),
        (["a.docs.example.com"], DOCS, ("a.docs.example.com",)),
        (["example.com"], DOCS, ("docs.example.com",)),
        (["com"], DOCS, ("docs.example.com",)),
        (["example.com", "example.org"], DOCS, DOCS),
        (["evil.example"], DOCS, ()),
        (["notexample.org"], DOCS, ()),
        (["example.org.evil.example"], DOCS, ()),
        (["example.org/blog"], DOCS, ("example.org/blog",)),
        (["example.com/blog"], DOCS, ()),
        ([], DOCS, ()),
    ],
)
def test_two_lists_of_domains_intersect(
    requested: list[str], bound: tuple[str, ...], common: tuple[str, ...]
) -> None:
    assert intersect_domains(requested, bound) == common


def test_several_bounds_of_a_rule_all_apply() -> None:
    bounds = [
        Bound(SEARCH, ("example.com", "example.org"), 5),
        Bound(SEARCH, ("docs.example.com",)),
        Bound(SEARCH, max_uses=2),
        Bound("web-fetch", ("elsewhere.example",)),
    ]
    assert limit_for(bounds, SEARCH) == Limit(domains=("docs.example.com",), max_uses=2)
    assert limit_for(bounds, "store") is None
    apart = [Bound(SEARCH, ("a.example",)), Bound(SEARCH, ("b.example",))]
    assert limit_for(apart, SEARCH) == Limit(domains=())
    assert set(BOUNDABLE) <= OPENABLE
