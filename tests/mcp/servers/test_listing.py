"""Loading lists page by page."""

from modelplex.mcp.constants import Json
from modelplex.mcp.servers.listing import _add

from .conftest import Start


async def test_a_cursor_cycle_and_endless_pages_end_with_a_warning(start: Start) -> None:
    scripted = start(pages="cycle")
    assert [tool["name"] for tool in (await scripted.server.lists()).tools] == ["page0", "page1", "page2"]
    assert any("repeats a page" in event.text for event in scripted.events)
    endless = start(pages="endless", limits={"max_pages": 7})
    assert len((await endless.server.lists()).tools) == 7
    assert any("more than 7 pages" in event.text for event in endless.events)
    whole = start(pages="4")
    assert len((await whole.server.lists()).tools) == 4


async def test_an_advertised_list_that_is_missing_does_not_affect_others(start: Start) -> None:
    scripted = start(missing="resources/templates/list")
    catalog = await scripted.server.lists()
    assert catalog.templates == ()
    assert len(catalog.resources) == 1
    assert len(catalog.tools) == 2


async def test_a_result_without_a_list_is_logged(start: Start) -> None:
    scripted = start(empty="tools/list")
    assert (await scripted.server.lists()).tools == ()
    assert any("The result of tools/list has no list of tools" in event.text for event in scripted.events)


def test_repeated_entries_are_skipped_and_entries_without_a_name_are_kept() -> None:
    entries: dict[object, Json] = {}
    _add(entries, [{"name": "a", "n": 1}, 5, {"name": "a", "n": 2}, {"n": 3}, {"name": 4}], key="name")
    _add(entries, "no list", key="name")
    assert list(entries.values()) == [{"name": "a", "n": 1}, {"n": 3}, {"name": 4}]
