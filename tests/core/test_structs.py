"""The data of requests, answers and Records is not tracked by the garbage collector: none of it can
have a cycle, and a body of thousands of parts would be walked again and again.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import msgspec

import modelplex.core
import modelplex.dialects

TABLES = {"modelplex.dialects.dialect"}
"""The rows of dialects, which last as long as the process."""


def structs() -> Iterator[type[msgspec.Struct]]:
    names = ["modelplex.records.record", "modelplex.records.tool_call"]
    for package in (modelplex.core, modelplex.dialects):
        names += [found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for name in names:
        for each in vars(importlib.import_module(name)).values():
            if isinstance(each, type) and issubclass(each, msgspec.Struct) and each.__module__ == name:
                yield each


def test_data_is_not_tracked() -> None:
    found = list(structs())
    assert len(found) > 250
    tracked = [
        f"{each.__module__}.{each.__qualname__}"
        for each in found
        if each.__struct_config__.gc and each.__module__ not in TABLES
    ]
    assert tracked == []
