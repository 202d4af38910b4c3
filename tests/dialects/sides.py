"""The client side of a dialect, which the tests of all dialects need."""

from collections.abc import Sequence

from msgspec.structs import replace

from modelplex.core.request import AnyTool
from modelplex.dialects.core.fields import FieldTable
from modelplex.dialects.dialect import ClientDialect
from modelplex.dialects.registry import DIALECTS


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
