"""npm's document of a package (packument): read, filtered by the allow list, written again. Pure.

Source: the package metadata document of npm's registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from modelplex.packages.allow_list import AllowList, integrity_hashes
from modelplex.packages.simple_index import AGE_UNKNOWN, TOO_NEW, Withheld, read_time

ABBREVIATED: Final = "application/vnd.npm.install-v1+json"
ACCEPT: Final = f"{ABBREVIATED}; q=1.0, application/json; q=0.8"
ACCEPT_FULL: Final = "application/json"
"""With the times of the releases."""


class Tarball(msgspec.Struct, frozen=True):
    """The archive of a version: its address at the registry, and its hashes."""

    url: str
    hashes: tuple[str, ...]


class Packument(msgspec.Struct, frozen=True):
    """`versions` are the registry's objects of the versions that may be had, `tarballs` what they
    name.
    """

    name: str
    versions: dict[str, dict[str, Any]]
    tarballs: dict[str, Tarball]
    tags: dict[str, str]
    times: dict[str, str]
    modified: str | None
    withheld: tuple[Withheld, ...]


class BrokenPackument(ValueError):
    """A document that is not a packument."""


def read_packument(body: bytes, *, name: str, allowed: AllowList, newest: float | None) -> Packument:
    """The versions of a package that may be had: allowed, with a strong hash, and released before
    `newest` (Unix seconds). Raises BrokenPackument.
    """
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise BrokenPackument(f"the registry sent no packument: {error}") from None
    times = _mapping(document.get("time"))
    versions: dict[str, dict[str, Any]] = {}
    tarballs: dict[str, Tarball] = {}
    withheld: list[Withheld] = []
    for number, facts in _mapping(document.get("versions")).items():
        version = allowed.version("npm", name, number)
        if version is None:
            continue
        tarball = _tarball(_mapping(facts))
        if tarball is None:
            withheld.append(Withheld(f"{name}@{number}", "the registry has no strong hash of it"))
        elif not version.accepts(tarball.hashes):
            withheld.append(Withheld(f"{name}@{number}", "its hash is not the lock file's"))
        elif newest is not None and (why := _too_new(times.get(number), newest)):
            withheld.append(Withheld(f"{name}@{number}", why))
        else:
            versions[number] = dict(_mapping(facts))
            tarballs[number] = tarball
    tags = {tag: number for tag, number in _mapping(document.get("dist-tags")).items() if number in versions}
    if versions:
        tags.setdefault("latest", list(versions)[-1])
    modified = document.get("modified")
    return Packument(
        name=name,
        versions=versions,
        tarballs=tarballs,
        tags=tags,
        times={key: value for key, value in times.items() if key in versions and isinstance(value, str)},
        modified=modified if isinstance(modified, str) else None,
        withheld=tuple(withheld),
    )


def _tarball(facts: Mapping[str, Any]) -> Tarball | None:
    dist = _mapping(facts.get("dist"))
    url, integrity = dist.get("tarball"), dist.get("integrity")
    hashes = integrity_hashes(integrity) if isinstance(integrity, str) else ()
    return Tarball(url, hashes) if isinstance(url, str) and hashes else None


def _too_new(time: object, newest: float) -> str:
    released = read_time(time) if isinstance(time, str) else None
    if released is None:
        return AGE_UNKNOWN
    return TOO_NEW if released > newest else ""


def write_packument(packument: Packument, *, address: Callable[[str], str]) -> bytes:
    """`address` gives the URL of a version's archive."""
    versions = {
        number: {**facts, "dist": {**facts["dist"], "tarball": address(number)}}
        for number, facts in packument.versions.items()
    }
    made: dict[str, object] = {"name": packument.name, "dist-tags": packument.tags, "versions": versions}
    if packument.modified is not None:
        made["modified"] = packument.modified
    if packument.times:
        made["time"] = packument.times
    return msgspec.json.encode(made)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
