"""Which packages a sandbox may have: those of the project's lock files, and those that the host
lists. Pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from modelplex.packages.names import Ecosystem, normal_name, normal_version

STRONG: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
"""Hashes that are accepted, with their sizes in bytes."""
_ENTRY: Final = re.compile(r"(?P<ecosystem>pypi|npm):(?P<name>@?[^@=\s]+)(?:(?:==|@)(?P<version>\S+))?")


class LockedPackage(msgspec.Struct, frozen=True):
    """A package of a lock file. `hashes` are `sha256:HEX` and the like; empty where the lock has
    none.
    """

    ecosystem: Ecosystem
    name: str
    version: str
    hashes: tuple[str, ...] = ()


class ListedPackage(msgspec.Struct, frozen=True):
    """A package that the host lists; `version` None for every version."""

    ecosystem: Ecosystem
    name: str
    version: str | None = None


class AllowedVersion(msgspec.Struct, frozen=True):
    """A version that may be had. Where there are `hashes`, only files with one of them."""

    hashes: frozenset[str] = frozenset()

    def accepts(self, hashes: Iterable[str]) -> bool:
        return not self.hashes or not self.hashes.isdisjoint(hashes)


class AllowList:
    def __init__(self, locked: Iterable[LockedPackage] = (), listed: Iterable[ListedPackage] = ()) -> None:
        self._versions: dict[tuple[Ecosystem, str], dict[str, AllowedVersion]] = {}
        self._any = {(each.ecosystem, each.name) for each in listed if each.version is None}
        for package in locked:
            self._add(package.ecosystem, package.name, package.version, package.hashes)
        for each in listed:
            if each.version is not None:
                self._add(each.ecosystem, each.name, each.version, ())

    def __repr__(self) -> str:
        return f"<AllowList {len(self._versions)} locked, {len(self._any)} in any version>"

    def _add(self, ecosystem: Ecosystem, name: str, version: str, hashes: Iterable[str]) -> None:
        versions = self._versions.setdefault((ecosystem, name), {})
        before = versions.get(version)
        given = frozenset(hashes)
        if before is not None:
            # Two locks: the hashes of both. One without hashes does not open what the other pins.
            given |= before.hashes
        versions[version] = AllowedVersion(given)

    def has_name(self, ecosystem: Ecosystem, name: str) -> bool:
        """`name` is normal."""
        return (ecosystem, name) in self._versions or (ecosystem, name) in self._any

    def version(self, ecosystem: Ecosystem, name: str, version: str) -> AllowedVersion | None:
        """`name` and `version` are normal. None where it may not be had."""
        found = self._versions.get((ecosystem, name), {}).get(version)
        if found is None and (ecosystem, name) in self._any:
            return AllowedVersion()
        return found

    def count(self, ecosystem: Ecosystem) -> int:
        """Names."""
        return len({name for kind, name in (*self._versions, *self._any) if kind == ecosystem})


def read_entry(text: str) -> ListedPackage:
    """`pypi:NAME`, `pypi:NAME==VERSION`, `npm:NAME` or `npm:NAME@VERSION`. Raises ValueError with a
    sentence.
    """
    found = _ENTRY.fullmatch(text)
    if found is not None:
        ecosystem: Ecosystem = "pypi" if found["ecosystem"] == "pypi" else "npm"
        name = normal_name(ecosystem, found["name"])
        version = found["version"] and normal_version(ecosystem, found["version"])
        if name is not None and bool(version) == bool(found["version"]):
            return ListedPackage(ecosystem, name, version or None)
    raise ValueError(
        f'"{text}" is no package: write pypi:NAME, pypi:NAME==VERSION, npm:NAME or npm:NAME@VERSION'
    )


def hex_hash(algorithm: str, digest: str) -> str | None:
    """`sha256:HEX`, or None for a hash that is not accepted."""
    size = STRONG.get(algorithm.lower())
    digest = digest.lower()
    if size is None or len(digest) != 2 * size or not re.fullmatch("[0-9a-f]+", digest):
        return None
    return f"{algorithm.lower()}:{digest}"


def hashes_of(named: Mapping[str, object]) -> tuple[str, ...]:
    """Those of a table such as {"sha256": HEX}."""
    found = (hex_hash(name, digest) for name, digest in named.items() if isinstance(digest, str))
    return tuple(filter(None, found))


def integrity_hashes(integrity: str) -> tuple[str, ...]:
    """Those of a Subresource Integrity value: `sha512-BASE64`, several separated by spaces."""
    found: list[str] = []
    for part in integrity.split():
        algorithm, _, encoded = part.partition("?")[0].partition("-")
        try:
            digest = base64.b64decode(encoded, validate=True).hex()
        except (binascii.Error, ValueError):
            continue
        if (made := hex_hash(algorithm, digest)) is not None:
            found.append(made)
    return tuple(found)
