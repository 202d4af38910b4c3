"""Exposed names: valid everywhere, the same for ever, each of one tool alone."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.config.tools import LEAST_NAME
from modelplex.mcp.names import MAX_LENGTH, ServerToolName, ToolNames, exposed

VALID = re.compile(r"[A-Za-z0-9_-]+")

server_names = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=24)
own_names = st.one_of(
    st.text(max_size=140),
    st.text(string.ascii_letters + "_-. /", max_size=130),
    st.sampled_from(["", "a.b", "a b", "a_b", "x" * 128, "a__b", "__", "a_b_2e7336dc", "é", "\ud800"]),
)


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ("status", "git__status"),
        ("get-Status_2", "git__get-Status_2"),
        ("__init__", "git____init__"),
        ("a__b", "git__a__b"),
        ("a.b", "git__a_b_2e7336dc"),
        ("", "git___e3b0c442"),
        ("x" * 59, "git__" + "x" * 59),
        ("x" * 60, "git__" + "x" * 50 + "_42f2d973"),
    ],
)
def test_a_name_is_the_servers_and_the_tools(own: str, name: str) -> None:
    assert exposed("git", own) == name


@given(server=server_names, own=own_names, limit=st.integers(LEAST_NAME, 128), prefix=st.booleans())
def test_every_name_is_valid_for_all_providers(server: str, own: str, limit: int, prefix: bool) -> None:
    name = exposed(server, own, limit=limit, prefix=prefix)
    assert VALID.fullmatch(name)
    assert len(name) <= limit
    assert not prefix or name.partition("__")[0] == server


@given(st.dictionaries(server_names, st.lists(own_names, max_size=8), max_size=4), st.booleans())
def test_every_tool_that_is_not_hidden_is_found_by_its_name(
    offered: dict[str, list[str]], prefix: bool
) -> None:
    names = ToolNames.of(offered, prefix=prefix)
    hidden = {owner for collision in names.collisions for owner in collision.owners}
    for server, own in ((server, own) for server, all_ in offered.items() for own in all_):
        name = names.exposed(server, own)
        if name is None:
            assert ServerToolName(server, own) in hidden
        else:
            assert names.find(name) == ServerToolName(server, own)
    assert len(set(names.exposed_names.values())) == len(names.exposed_names)


@given(server_names, st.lists(own_names, max_size=8), server_names, st.lists(own_names, max_size=8))
def test_another_server_changes_no_name(one: str, tools: list[str], other: str, others: list[str]) -> None:
    if one == other:
        return
    alone = ToolNames.of({one: tools})
    beside = ToolNames.of({other: others, one: tools})
    assert {own: name for own, name in beside.exposed_names.items() if own.server == one} == dict(
        alone.exposed_names
    )


def test_every_exposed_name_is_found_again() -> None:
    own = ["a.b", "a b", "a_b", "x" * 128, "x" * 127, "a__b", "tool/with/slashes", "écoute", "__", "..."]
    names = ToolNames.of({"one": own, "two": own})
    assert names.collisions == ()
    for server in ("one", "two"):
        for tool in own:
            name = names.exposed(server, tool)
            assert name
            assert names.find(name) == ServerToolName(server, tool)


def test_colliding_names_are_hidden_and_reported() -> None:
    changed = exposed("git", "a.b").removeprefix("git__")
    names = ToolNames.of({"git": ["a.b", changed, "c"]})
    assert names.exposed("git", "a.b") is None
    assert names.exposed("git", changed) is None
    assert names.find(f"git__{changed}") is None
    assert names.exposed("git", "c") == "git__c"
    (collision,) = names.collisions
    assert "'a.b' of git" in collision.sentence
    assert f"'{changed}' of git" in collision.sentence


def test_a_tool_that_its_server_names_twice_is_hidden() -> None:
    names = ToolNames.of({"git": ["a", "a", "b"]})
    assert names.exposed("git", "a") is None
    assert names.find("git__b")
    assert ToolNames.of_one_server("git", ["a", "a"]).find("a") is None


def test_without_prefix_tools_have_their_own_names() -> None:
    names = ToolNames.of({"git": ["status"], "fs": ["read.file"]}, prefix=False)
    assert not names.prefixed
    assert names.find("status") == ServerToolName("git", "status")
    assert names.exposed("fs", "read.file") == exposed("fs", "read.file", prefix=False)


def test_without_prefix_a_collision_restores_all_prefixes() -> None:
    names = ToolNames.of({"git": ["status", "log"], "svn": ["status"]}, prefix=False)
    assert names.prefixed
    assert names.exposed("git", "log") == "git__log"
    assert names.exposed("svn", "status") == "svn__status"
    assert [collision.name for collision in names.collisions] == ["status"]


def test_no_tool_has_a_reserved_name() -> None:
    names = ToolNames.of({"a": ["search_tools", "x"]}, prefix=False, reserved=("search_tools",))
    assert names.exposed("a", "x") == "a__x"
    assert ToolNames.of({"a": ["x"]}, reserved=("a__x",)).find("a__x") is None


def test_a_route_of_one_server_has_its_names_as_they_are() -> None:
    names = ToolNames.of_one_server("git", ["a b", "x" * 200])
    assert names.find("a b") == ServerToolName("git", "a b")
    assert names.exposed("git", "x" * 200) == "x" * 200


def test_names_are_in_the_order_of_the_servers_and_then_by_code_point() -> None:
    names = ToolNames.of({"z": ["b", "a", "B"], "a": ["c"]})
    assert list(names.owners) == ["z__B", "z__a", "z__b", "a__c"]
    assert MAX_LENGTH == 64
