"""Hashes and states of definitions."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.mcp.approvals import (
    PROMPT_MEMBERS,
    Approvals,
    LockedServer,
    approved,
    hash_of,
    mode_of,
    says,
)
from modelplex.mcp.constants import Catalog, Json


def tool(name: str = "read", **members: Any) -> Json:
    return {"name": name, "description": "Reads a file.", "inputSchema": {"type": "object"}, **members}


def catalog(*tools: Json, **members: Any) -> Catalog:
    members = {"era": "legacy", "version": "2025-11-25", **members}
    return Catalog(tools=tools, **members)


def locked(*tools: Json, **members: Any) -> Approvals:
    return Approvals(mode="locked", lock={"fs": approved(LockedServer(), catalog(*tools, **members))})


def states(pins: Approvals, now: Catalog, **facts: Any) -> dict[str, str]:
    return {pin.name: pin.state for pin in pins.judge("fs", now, **facts).entries}


def test_a_hash_is_that_of_canonical_json() -> None:
    # sha256sum of {"description":"é","name":"a"}
    digest = "baa4e17738ef0b147346e4d62f66f5ff62dbc7539f6d7460bdf99d1c51a08f11"
    assert hash_of({"name": "a", "description": "é", "vendor": 1}) == f"sha256:{digest}"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


def backwards(value: Any) -> Any:
    match value:
        case dict():
            members = cast("Json", value)
            return {key: backwards(member) for key, member in reversed(members.items())}
        case list():
            return [backwards(element) for element in cast("list[object]", value)]
        case _:
            return value


@given(json_values)
def test_the_order_of_keys_changes_no_hash(schema: object) -> None:
    definition = tool(inputSchema=schema)
    assert hash_of(definition) == hash_of(backwards(definition))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"title": "Read"},
        {"description": "Reads a file. Then sends it on."},
        {"inputSchema": {"type": "object", "properties": {"to": {}}}},
        {"outputSchema": {}},
        {"annotations": {"readOnlyHint": True}},
        {"icons": []},
        {"_meta": {"ui": {"resourceUri": "ui://x"}}},
    ],
)
def test_every_member_that_a_model_or_a_person_reads_is_in_the_hash(change: Json) -> None:
    assert hash_of({**tool(), **change}) != hash_of(tool())


def test_members_that_nobody_reads_are_not_in_the_hash() -> None:
    assert hash_of({**tool(), "_meta": {"time": 1}, "execution": {}, "vendor": 2}) == hash_of(tool())


def test_locked_mode_holds_new_and_changed_definitions() -> None:
    pins = locked(tool("a"), tool("b"))
    judgement = pins.judge("fs", catalog(tool("a"), tool("b", description="Sends it on."), tool("c")))
    assert {pin.name: pin.state for pin in judgement.entries} == {
        "a": "approved",
        "b": "changed",
        "c": "pending",
    }
    assert judgement.held_tools == {"b", "c"}
    assert [pin.name for pin in judgement.changed] == ["b"]
    assert [pin.name for pin in judgement.pending] == ["c"]
    assert judgement.first is None


def test_a_tool_that_changes_back_is_approved_again() -> None:
    assert states(locked(tool()), catalog(tool())) == {"read": "approved"}


def test_without_an_entry_in_the_lock_everything_is_held() -> None:
    judgement = Approvals(mode="locked").judge(
        "fs", catalog(tool(), prompts=({"name": "p"},), instructions="x")
    )
    assert judgement.held_tools == {"read"}
    assert judgement.held_prompts == {"p"}
    assert judgement.held_instructions


def test_prompts_and_instructions_are_pinned_too() -> None:
    prompt: Json = {"name": "p", "description": "d"}
    pins = locked(prompts=(prompt,), instructions="Be kind.")
    same = pins.judge("fs", catalog(prompts=(prompt,), instructions="Be kind."))
    assert same.held_prompts == frozenset()
    assert not same.held_instructions
    other = pins.judge("fs", catalog(prompts=({**prompt, "arguments": []},), instructions="Be cruel."))
    assert other.held_prompts == {"p"}
    assert other.held_instructions
    assert hash_of(prompt, members=PROMPT_MEMBERS)


def test_trust_first_records_new_definitions_and_reports_changes() -> None:
    first = Approvals().judge("fs", catalog(tool("a")), launch="one")
    assert [pin.state for pin in first.entries] == ["approved"]
    assert first.first
    assert first.first.tools == {"a": hash_of(tool("a"))}

    seen = Approvals(seen={"fs": first.first})
    assert seen.judge("fs", catalog(tool("a")), launch="one").first is None
    later = seen.judge("fs", catalog(tool("a", description="Other."), tool("b")), launch="one")
    assert {pin.name: pin.state for pin in later.entries} == {"a": "changed", "b": "approved"}
    assert later.held_tools == frozenset()
    assert later.first
    assert later.first.tools == {"a": hash_of(tool("a")), "b": hash_of(tool("b"))}


def test_a_change_is_reported_after_each_restart_until_it_is_approved() -> None:
    first = Approvals().judge("fs", catalog(tool()), launch="one").first
    assert first
    changed = catalog(tool(description="Other."))
    for _ in range(2):
        judgement = Approvals(seen={"fs": first}).judge("fs", changed, launch="one")
        assert [pin.state for pin in judgement.entries] == ["changed"]
        first = judgement.first or first
    assert states(Approvals(seen={"fs": approved(first, changed)}), changed, launch="one") == {
        "read": "approved"
    }


def test_a_server_that_is_started_differently_is_seen_for_the_first_time() -> None:
    first = Approvals().judge("fs", catalog(tool()), launch="one").first
    assert first
    judgement = Approvals(seen={"fs": first}).judge("fs", catalog(tool(description="Other.")), launch="two")
    assert [pin.state for pin in judgement.entries] == ["approved"]
    assert judgement.first
    assert judgement.first.launch == "two"


def test_pinning_off_judges_nothing() -> None:
    judgement = Approvals(mode="off").judge("fs", catalog(tool()))
    assert (judgement.entries, judgement.held_tools, judgement.first) == ((), frozenset(), None)


@pytest.mark.parametrize(
    ("pinning", "file", "mode"),
    [
        ("auto", True, "locked"),
        ("auto", False, "trust_first"),
        ("locked", False, "locked"),
        ("trust_first", True, "trust_first"),
        ("off", True, "off"),
    ],
)
def test_a_lock_file_makes_it_strict_unless_it_is_configured(pinning: str, file: bool, mode: str) -> None:
    assert mode_of(pinning, locked=file) == mode


def test_only_named_definitions_are_approved() -> None:
    server = approved(
        LockedServer(), catalog(tool("a"), tool("b")), tools={"a"}, prompts=(), instructions=False
    )
    assert set(server.tools) == {"a"}
    assert server.instructions is None


def test_a_servers_name_and_version_are_one_short_line() -> None:
    found = says(catalog(info={"name": "fs\x1b[31m\n" + "x" * 500, "version": "1.2"}))
    assert found.isprintable()
    assert len(found) == 100
    assert says(catalog(info={"name": "fs", "version": "1.2"})) == "fs 1.2"


def test_two_servers_with_tools_of_the_same_names_are_not_suspicious() -> None:
    now = catalog(
        tool("read_query"), tool("write_query", description="Unlike read_query it writes. See list_tables.")
    )
    pins = Approvals().judge("fs", now, others=("read_query", "write_query", "list_tables")).entries
    assert [finding.what for pin in pins for finding in pin.findings] == ["list_tables"]


def test_hidden_characters_are_reported_in_every_mode_and_keep_a_new_tool_pending_in_locked_mode() -> None:
    now = catalog(tool(description="Reads\u200b a file."))
    for pins in (Approvals(), Approvals(mode="locked")):
        (pin,) = pins.judge("fs", now).entries
        assert [finding.kind for finding in pin.findings] == ["invisible"]
    assert Approvals(mode="locked").judge("fs", now).held_tools == {"read"}


class Counted(list[str]):
    """Names that count how often they are gone through."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(names)
        self.times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


def test_the_names_of_other_servers_are_gone_through_once_for_each_server() -> None:
    others = Counted(f"other_tool_{number}" for number in range(10))
    tools = tuple({"name": f"t{number}", "description": "like other_tool_3"} for number in range(50))
    judged = Approvals(mode="trust_first").judge(
        "s", Catalog(era="legacy", version="2025-11-25", tools=tools), others=others
    )
    assert [finding.kind for pin in judged.entries for finding in pin.findings] == ["other_tool"] * 50
    assert others.times <= 2
