"""What lock files name: packages with versions and hashes, and the addresses they come from. Pure.

Packages from elsewhere than an index (git, a path, an archive's address) are left out. Source: the
PyPA specification of pylock.toml, and the files that pip-compile, uv, poetry and npm write.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from modelplex.packages.allow_list import LockedPackage, hashes_of, hex_hash, integrity_hashes
from modelplex.packages.names import Ecosystem, normal_name, normal_version

_PIN: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*={2,3}\s*(?P<version>[^\s;,#*]+)(?P<rest>[\s;].*)?$"
)
_HASH: Final = re.compile(r"--hash[= ](\w+):([0-9a-fA-F]+)")
_INDEX_OPTION: Final = re.compile(r"(?:-i|--index-url|--extra-index-url)[ =]\s*(\S+)")
MAX_DEPTH: Final = 50
"""Of nested dependencies in an old package-lock.json."""


class LockedAddress(msgspec.Struct, frozen=True):
    """An address that a lock file names: of an index, or (`is_file`) of files."""

    ecosystem: Ecosystem
    url: str
    is_file: bool = False


class LockFile(msgspec.Struct, frozen=True):
    packages: tuple[LockedPackage, ...] = ()
    places: frozenset[LockedAddress] = frozenset()


class BrokenLock(ValueError):
    """A lock file that cannot be read."""


def read_requirements(text: str) -> LockFile:
    """Pins (`name==1.0`) of a requirements file, with their hashes. Other lines are left out."""
    packages: list[LockedPackage] = []
    places: set[LockedAddress] = set()
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        written = re.sub(r"(^|\s)#.*$", "", line).strip()
        if option := _INDEX_OPTION.match(written):
            places.add(LockedAddress("pypi", option[1]))
        elif pin := _PIN.match(written):
            hashes = (hex_hash(name, digest) for name, digest in _HASH.findall(pin["rest"] or ""))
            packages += _package("pypi", pin["name"], pin["version"], filter(None, hashes))
    return LockFile(tuple(packages), frozenset(places))


def read_uv_lock(text: str) -> LockFile:
    packages: list[LockedPackage] = []
    places: set[LockedAddress] = set()
    for table in _tables(_toml(text).get("package")):
        registry = _mapping(table.get("source")).get("registry")
        if not isinstance(registry, str) or "://" not in registry:
            continue
        places.add(LockedAddress("pypi", registry))
        files = [*_tables(table.get("wheels")), *_tables([table.get("sdist")])]
        places |= {LockedAddress("pypi", url, is_file=True) for url in _texts(files, "url")}
        packages += _package("pypi", table.get("name"), table.get("version"), _colon_hashes(files))
    return LockFile(tuple(packages), frozenset(places))


def read_poetry_lock(text: str) -> LockFile:
    packages: list[LockedPackage] = []
    places: set[LockedAddress] = set()
    for table in _tables(_toml(text).get("package")):
        source = _mapping(table.get("source"))
        if source.get("type") in {"git", "directory", "file", "url"}:
            continue
        if isinstance(source.get("url"), str):
            places.add(LockedAddress("pypi", source["url"]))
        hashes = _colon_hashes(_tables(table.get("files")))
        packages += _package("pypi", table.get("name"), table.get("version"), hashes)
    return LockFile(tuple(packages), frozenset(places))


def read_pylock(text: str) -> LockFile:
    packages: list[LockedPackage] = []
    places: set[LockedAddress] = set()
    for table in _tables(_toml(text).get("packages")):
        files = [*_tables(table.get("wheels")), *_tables([table.get("sdist")])]
        if not files:
            continue
        if isinstance(table.get("index"), str):
            places.add(LockedAddress("pypi", table["index"]))
        places |= {LockedAddress("pypi", url, is_file=True) for url in _texts(files, "url")}
        hashes = [found for each in files for found in hashes_of(_mapping(each.get("hashes")))]
        packages += _package("pypi", table.get("name"), table.get("version"), hashes)
    return LockFile(tuple(packages), frozenset(places))


def read_package_lock(text: str) -> LockFile:
    """package-lock.json and npm-shrinkwrap.json, of every version."""
    try:
        document = _mapping(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise BrokenLock(f"it is not JSON: {error}") from None
    packages: list[LockedPackage] = []
    places: set[LockedAddress] = set()

    def add(name: object, table: Mapping[str, Any]) -> None:
        resolved = table.get("resolved")
        if isinstance(resolved, str) and not resolved.startswith(("http://", "https://")):
            return
        integrity = table.get("integrity")
        hashes = integrity_hashes(integrity) if isinstance(integrity, str) else ()
        found = _package("npm", name, table.get("version"), hashes)
        if found and isinstance(resolved, str):
            base, mark, _ = resolved.partition(f"/{found[0].name}/-/")
            places.add(LockedAddress("npm", base if mark else resolved, is_file=not mark))
        packages.extend(found)

    for path, table in _mapping(document.get("packages")).items():
        name = _mapping(table).get("name") or path.rpartition("node_modules/")[2]
        if "node_modules/" in path and not _mapping(table).get("link"):
            add(name, _mapping(table))
    if "packages" not in document:
        _nested(_mapping(document.get("dependencies")), add)
    return LockFile(tuple(packages), frozenset(places))


def _nested(
    tables: Mapping[str, Any], add: Callable[[object, Mapping[str, Any]], None], *, depth: int = 0
) -> None:
    if depth > MAX_DEPTH:
        raise BrokenLock(f"its dependencies are nested more than {MAX_DEPTH} levels deep")
    for name, table in tables.items():
        add(name, _mapping(table))
        _nested(_mapping(_mapping(table).get("dependencies")), add, depth=depth + 1)


def _package(
    ecosystem: Ecosystem, name: object, version: object, hashes: Iterable[str]
) -> list[LockedPackage]:
    if not isinstance(name, str) or not isinstance(version, str):
        return []
    normal, exact = normal_name(ecosystem, name), normal_version(ecosystem, version)
    if normal is None or exact is None:
        return []
    return [LockedPackage(ecosystem, normal, exact, tuple(hashes))]


def _toml(text: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenLock(f"it is not TOML: {error}") from None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _tables(value: object) -> list[Mapping[str, Any]]:
    found = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, Any]", each) for each in found if isinstance(each, dict)]


def _texts(tables: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    return [each[key] for each in tables if isinstance(each.get(key), str)]


def _colon_hashes(files: Iterable[Mapping[str, Any]]) -> list[str]:
    found = (hex_hash(*text.split(":", 1)) for text in _texts(files, "hash") if ":" in text)
    return [each for each in found if each is not None]
