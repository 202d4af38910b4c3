"""The merged catalog: order, pages, visibility, owners."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.mcp.catalog import (
    MAX_INSTRUCTIONS,
    MAX_SERVER_INSTRUCTIONS,
    BadCursor,
    MergedCatalog,
    ServerOffer,
    merge,
)
from modelplex.mcp.constants import Catalog
from tests.mcp.offers import listed, offer, resource, sentences, template, tool


def servers(merged: MergedCatalog) -> tuple[str, ...]:
    return tuple(part.server for part in merged._parts)


def test_the_order_is_the_configs_and_then_by_code_point() -> None:
    merged = merge([offer("z", "b", "a", "B"), offer("a", "c")])
    assert listed(merged) == ["z__B", "z__a", "z__b", "a__c"]
    assert servers(merged) == ("z", "a")


@given(st.permutations(["a", "b", "c", "a.b", "a b"]))
def test_the_order_of_a_servers_own_list_does_not_matter(tools: list[str]) -> None:
    assert listed(merge([offer("s", *tools)])) == listed(merge([offer("s", *sorted(tools))]))


def test_a_definition_passes_unchanged_except_for_its_name() -> None:
    schema = {
        "type": "object",
        "$defs": {"a": {"$anchor": "x"}},
        "allOf": [{"$ref": "https://example.com/never-fetched"}],
    }
    given_tool = tool("a.b", inputSchema=schema, vendor=[1], _meta={"x": 1}, annotations={"newHint": True})
    (entry,) = merge(
        [ServerOffer(server="s", catalog=Catalog(era="modern", version="2026-07-28", tools=(given_tool,)))]
    ).entries("tools")
    assert entry.definition == {**given_tool, "name": entry.name}
    assert (entry.server, entry.own) == ("s", "a.b")


def test_the_route_of_one_server_has_its_names_its_order_and_its_instructions() -> None:
    merged = merge([offer("s", "b", "a b", instructions="Be kind.")], single=True)
    assert listed(merged) == ["b", "a b"]
    assert merged.instructions == "Be kind."
    found = merged.tool("a b")
    assert found
    assert found.own == "a b"


def test_a_denied_tool_has_no_exposed_name() -> None:
    merged = merge([offer("s", "read", "write", globs=("!write",))])
    assert listed(merged) == ["s__read"]
    assert merged.names.find("s__write") is None


def test_a_held_tool_is_not_listed_but_has_a_name() -> None:
    merged = merge(
        [
            offer(
                "s",
                "a",
                "b",
                prompts=({"name": "p"}, {"name": "q"}),
                instructions="x",
                held_tools=frozenset({"a"}),
                held_prompts=frozenset({"p"}),
                held_instructions=True,
            )
        ]
    )
    assert (listed(merged), listed(merged, "prompts"), merged.instructions) == (["s__b"], ["s__q"], None)
    assert merged.tool("s__a") is None
    assert merged.names.find("s__a")
    assert merged.prompt_names.find("s__p")


def test_colliding_tools_are_hidden_with_a_warning() -> None:
    merged = merge([offer("s", "a", "a", "b")])
    assert listed(merged) == ["s__b"]
    assert "the same name s__a" in sentences(merged)[0]


def pages(merged: MergedCatalog, *, size: int) -> list[str]:
    names: list[str] = []
    cursor = None
    for _ in range(1000):
        page = merged.page("tools", cursor=cursor, size=size)
        names += [definition["name"] for definition in page["tools"]]
        cursor = page.get("nextCursor")
        if cursor is None:
            return names
    raise AssertionError("pages without end")


@given(st.integers(1, 12))
def test_all_pages_together_are_the_list(size: int) -> None:
    merged = merge([offer("a", *"cba"), offer("b", *"xyz"), offer("c", "ü.", "ü,")])
    assert pages(merged, size=size) == listed(merged)


def test_a_cursor_goes_on_after_its_entry_where_the_list_has_changed() -> None:
    cursor = merge([offer("s", *"bcd")]).page("tools", size=2)["nextCursor"]
    assert listed_page(merge([offer("s", *"abcde")]), cursor) == ["s__d", "s__e"]
    assert listed_page(merge([offer("s", *"bde")]), cursor) == ["s__e"]
    assert listed_page(merge([offer("s")]), cursor) == []


def listed_page(merged: MergedCatalog, cursor: str) -> list[str]:
    return [definition["name"] for definition in merged.page("tools", cursor=cursor)["tools"]]


@pytest.mark.parametrize("cursor", ["", "!!!", "bogus", "ü", "W10", "eyJhIjoxfQ", "x" * 10_000])
def test_a_cursor_that_no_list_gave_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        merge([offer("s", "a")]).page("tools", cursor=cursor)


def test_a_cursor_of_another_list_is_refused() -> None:
    merged = merge([offer("s", "a", "b", prompts=({"name": "p"},))])
    with pytest.raises(BadCursor):
        merged.page("prompts", cursor=merged.page("tools", size=1)["nextCursor"])


def test_an_ordinary_list_is_one_page() -> None:
    assert set(merge([offer("s", *(f"t{n}" for n in range(500)))]).page("tools")) == {"tools"}


def two() -> MergedCatalog:
    return merge(
        [
            offer(
                "git",
                "status",
                "push",
                prompts=({"name": "review"},),
                resources=(resource("git:log"),),
                templates=(template("git:{id}"),),
                capabilities={"tools": {}, "resources": {"subscribe": True}},
                instructions="Commit often.",
            ),
            offer(
                "fs",
                "read",
                resources=(resource("file:///a"),),
                capabilities={"tools": {"listChanged": True}, "resources": {}},
            ),
        ]
    )


def test_a_caller_with_one_tool_sees_only_that_tool() -> None:
    seen = two().visible_to(("git__status",))
    assert listed(seen) == ["git__status"]
    assert servers(seen) == ("git",)
    for kind in ("prompts", "resources", "resourceTemplates"):
        assert listed(seen, kind) == []
    assert seen.capabilities() == {"tools": {}}
    assert seen.instructions is None
    assert (
        seen.tool("git__push"),
        seen.tool("fs__read"),
        seen.owner("git:log"),
        seen.owner("file:///a"),
    ) == (None,) * 4


def test_a_caller_of_a_whole_server_sees_all_of_it() -> None:
    seen = two().visible_to(("git__*",))
    assert listed(seen) == ["git__push", "git__status"]
    assert listed(seen, "prompts") == ["git__review"]
    assert seen.owner("git:log") == "git"
    assert seen.owner("file:///a") is None
    assert seen.instructions == "# git\n\nCommit often."


def test_a_caller_without_globs_sees_everything() -> None:
    merged = two()
    assert merged.visible_to(()) is merged
    assert listed(merged.visible_to(("*",))) == listed(merged)


def test_without_prefix_a_callers_globs_name_tools_in_either_form() -> None:
    merged = merge([offer("git", "status", "push")], prefix=False)
    assert listed(merged.visible_to(("git__status",))) == ["status"]
    assert listed(merged.visible_to(("status",))) == ["status"]
    assert servers(merged.visible_to(("st*", "nothing"))) == ("git",)
    assert servers(merged.visible_to(("nothing",))) == ()
    assert listed(merged.visible_to(("*", "!push"))) == ["status"]
    assert listed(merged.visible_to(("*", "!git__push"))) == ["status"]


def test_capabilities_are_those_of_all_as_far_as_they_are_relayed() -> None:
    merged = merge(
        [
            offer(
                "a",
                capabilities={
                    "logging": {},
                    "tools": {"listChanged": False, "vendor": 1},
                    "experimental": {"x": {}},
                },
            ),
            offer(
                "b",
                capabilities={
                    "tools": {"listChanged": True},
                    "resources": {"subscribe": True},
                    "tasks": {"list": {}},
                },
            ),
            offer(
                "c", capabilities={"completions": {}, "resources": {"listChanged": True}, "prompts": "broken"}
            ),
        ]
    )
    assert merged.capabilities() == {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": True},
        "completions": {},
        "logging": {},
    }
    assert merge([]).capabilities() == {}


def test_instructions_stand_below_their_servers_names_and_are_cut() -> None:
    merged = merge([offer("a", instructions=" One. "), offer("b"), offer("c", instructions="Three.")])
    assert merged.instructions == "# a\n\nOne.\n\n# c\n\nThree."
    long = merge([offer(f"s{number}", instructions="x" * 20_000) for number in range(9)]).instructions
    assert long
    assert len(long) <= MAX_INSTRUCTIONS
    assert long.startswith("# s0\n\nxxx")
    assert f"{'x' * (MAX_SERVER_INSTRUCTIONS - 4)} ...\n\n# s1" in long
    assert merge([]).instructions is None


def test_a_uri_is_the_servers_that_lists_it() -> None:
    merged = two()
    assert merged.owner("git:log") == "git"
    assert merged.owner("file:///a") == "fs"
    assert merged.owner("file:///etc/passwd") is None


def test_a_uri_of_two_servers_is_hidden_with_a_warning() -> None:
    merged = merge(
        [
            offer("a", resources=(resource("x:1"), resource("x:2")), templates=(template("y:{z}"),)),
            offer("b", resources=(resource("x:1"),), templates=(template("y:{z}"),)),
        ]
    )
    assert listed(merged, "resources") == ["x:2"]
    assert listed(merged, "resourceTemplates") == []
    assert merged.owner("x:1") is None
    assert merged.owner("y:1") is None
    assert len([said for said in sentences(merged) if "another server has it too" in said]) == 4


def test_the_web_is_read_only_where_the_very_address_is_listed() -> None:
    merged = merge(
        [
            offer(
                "s",
                resources=(resource("https://example.com/a"),),
                templates=(template("https://{+any}"), template("{+all}")),
            )
        ]
    )
    assert merged.owner("https://example.com/a") == "s"
    assert merged.owner("https://example.com/b") is None
    assert merged.owner("HTTP://example.com/b") is None
    assert merged.owner("file:///b") == "s"


def test_the_longest_matching_template_owns_a_uri_and_a_tie_has_no_owner() -> None:
    merged = merge(
        [
            offer("wide", templates=(template("x://{+all}"),)),
            offer("close", templates=(template("x://a/{b}"), template("x://a/{c}/d"))),
        ]
    )
    assert merged.owner("x://a/1") == "close"
    assert merged.owner("x://b/1") == "wide"
    tied = merge(
        [offer("one", templates=(template("x://{a}"),)), offer("two", templates=(template("x://{b}"),))]
    )
    assert tied.owner("x://1") is None


def test_a_completion_belongs_to_its_prompts_or_its_templates_server() -> None:
    merged = two()
    assert merged.complete_ref({"type": "ref/prompt", "name": "git__review", "title": "x"}) == (
        "git",
        {"type": "ref/prompt", "name": "review", "title": "x"},
    )
    assert merged.complete_ref({"type": "ref/resource", "uri": "git:{id}"}) == (
        "git",
        {"type": "ref/resource", "uri": "git:{id}"},
    )
    assert merged.complete_ref({"type": "ref/prompt", "name": "review"}) is None
    assert merged.complete_ref({"type": "ref/resource", "uri": "nobody:{x}"}) is None


def test_the_repr_has_the_counts() -> None:
    assert repr(two()) == "<MergedCatalog of 2 servers: 3 tools, 1 prompts, 2 resources, 1 resourceTemplates>"
