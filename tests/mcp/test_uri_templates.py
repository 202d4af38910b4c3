"""URIs against URI templates."""

import time

import pytest

from modelplex.mcp.catalog import (
    merge,
)
from modelplex.mcp.uri_templates import (
    MAX_EXPRESSIONS,
    MAX_TEMPLATE_LENGTH,
    MAX_URI_LENGTH,
    Expression,
    UriTemplate,
    is_matchable,
    is_too_large,
    literal_length,
    matches,
    parse_template,
)
from tests.mcp.offers import offer, template


@pytest.mark.parametrize(
    ("written", "uri", "fits"),
    [
        ("test://template/{id}/data", "test://template/7/data", True),
        ("test://template/{id}/data", "test://template/7/8/data", False),
        ("test://template/{id}/data", "test://template//data", False),
        ("test://template/{id}/data", "test://template/7/data/more", False),
        ("file:///{+path}", "file:///a/b/c", True),
        ("file:///{+path}", "file:///", False),
        ("docs://{a}/{b}", "docs://x/y", True),
        ("docs://{a}-{b}", "docs://x-y-z", True),
        ("docs://x{/parts}", "docs://x/a/b", True),
        ("docs://x{/parts}", "docs://x", True),
        ("docs://{path*}", "docs://a/b", True),
        ("q://x{?a,b}", "q://x", True),
        ("q://x{?a,b}", "q://x?a=1&b=2", True),
        ("q://x{?a}", "q://y?a=1", False),
        ("q://x?z=1{&a}", "q://x?z=1&a=2", True),
        ("q://x{#part}", "q://x#there", True),
        ("q://x{.ext}", "q://x.tar.gz", True),
        ("q://x{;a}y", "q://x;a=1y", True),
        ("{+any}", "q://x", True),
        ("{a}{b}", "qx", True),
        ("{a}{b}", "q", False),
        ("plain://x", "plain://x", True),
    ],
)
def test_a_uri_belongs_to_the_server_whose_template_matches(written: str, uri: str, fits: bool) -> None:
    merged = merge([offer("s", templates=(template(written),))])
    assert merged.owner(uri) == ("s" if fits else None)


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "file:///work/../etc/passwd",
            "file:///work/..",
            "file:///work/%2e%2E/etc",
            "file:///work/a\\..\\b",
        ),
        *("file:///work/\x00", "file:///work/" + "x" * 9000),
    ],
)
def test_a_uri_with_parent_segments_matches_no_template(uri: str) -> None:
    merged = merge([offer("s", templates=(template("file:///work/{+path}"),))])
    assert merged.owner("file:///work/a..b/c") == "s"
    assert merged.owner(uri) is None


def test_matching_is_bounded_for_hostile_templates_and_uris() -> None:
    merged = merge([offer("s", templates=(template("x:" + "{+a}a" * 40 + "b"),))])
    began = time.process_time()
    assert merged.owner("x:" + "a" * 8000) is None
    # A backtracking search would not end before the universe does.
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("plain://x", ("plain://x",)),
        ("{a}", (Expression("/?#", least=1),)),
        ("x{a*}y", ("x", Expression("?#", least=1), "y")),
        ("{+a}{/b}", (Expression("", least=1), Expression("?#", prefix="/", optional=True))),
        ("x{", ("x{",)),
        ("", ()),
    ],
)
def test_a_template_is_literals_and_expressions(text: str, template: UriTemplate) -> None:
    assert parse_template(text) == template


def test_an_expression_ends_before_its_stop_characters() -> None:
    template = parse_template("x://{a}/{b}")
    assert matches(template, "x://1/2")
    assert not matches(template, "x://1/2/3")
    assert not matches(template, "x:///2")
    assert not matches(template, "x://1")
    assert literal_length(template) == len("x:///")


def test_templates_and_uris_have_limits() -> None:
    assert not is_too_large("{a}" * MAX_EXPRESSIONS)
    assert is_too_large("{a}" * (MAX_EXPRESSIONS + 1))
    assert is_too_large("x" * (MAX_TEMPLATE_LENGTH + 1))
    assert is_matchable("x" * MAX_URI_LENGTH)
    assert not is_matchable("x" * (MAX_URI_LENGTH + 1))
