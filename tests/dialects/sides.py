"""The client side of a dialect, and requests made by hand, for the tests of all dialects."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from modelplex.core.request import AnyTool, ChatRequest, Message, Part, Place, ToolResultPart
from modelplex.dialects.core.fields import FieldTable
from modelplex.dialects.dialect import ClientDialect, Dialect
from modelplex.dialects.registry import DIALECTS, FORMS


def all_dialects() -> dict[str, Dialect]:
    """Every dialect, loaded."""
    return {name: DIALECTS[name] for name in FORMS}


def client_dialect(dialect: str) -> ClientDialect:
    """How a client of this dialect converses."""
    found = DIALECTS[dialect].client
    assert found is not None, dialect
    return found


def usual_paths(table: FieldTable, within: str = "") -> dict[str, str]:
    """Where each leaf stands in a body that has every member."""
    paths: dict[str, str] = {}
    for row in table.rows:
        group, _, _ = row.leaf.rpartition(".")
        if row.leaf and (row.type is not None or not group):
            paths.setdefault(row.leaf, within + row.name)
            if group == "reasoning":
                paths.setdefault(group, within + row.name)
        if row.name in table.objects:
            paths = usual_paths(table.objects[row.name], f"{within}{row.name}.") | paths
    return paths


def placed(tools: Sequence[AnyTool]) -> tuple[AnyTool, ...]:
    """The tools with the paths of a body that has them in `tools`."""
    return tuple(replace(tool, path=f"tools[{n}]") for n, tool in enumerate(tools))


def with_places(call: ChatRequest) -> ChatRequest:
    """The request with a place for each message and part, as a reader gives them."""
    messages = tuple(_placed_message(n, message) for n, message in enumerate(call.messages))
    return replace(call, messages=messages)


def _placed_message(n: int, message: Message) -> Message:
    path = message.path or f"messages[{n}]"
    parts = tuple(_placed_part(part, Place(path, ".content", i)) for i, part in enumerate(message.parts))
    return replace(message, path=path, parts=parts)


def _placed_part(part: Part, place: Place) -> Part:
    if isinstance(part, ToolResultPart):
        inner = (_placed_part(each, Place(place, ".content", i)) for i, each in enumerate(part.parts))
        part = replace(part, parts=tuple(inner))
    return replace(part, at=place)


def stands(parts: Iterable[Part]) -> list[tuple[str, str]]:
    """The kind and the path of each part, and of the parts inside a result."""
    found: list[tuple[str, str]] = []
    for part in parts:
        found.append((type(part).__name__.removesuffix("Part"), str(part.at)))
        if isinstance(part, ToolResultPart):
            found += stands(part.parts)
    return found
