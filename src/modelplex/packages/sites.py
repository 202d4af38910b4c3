"""What a request of the sandbox asks for. Pure.

The result has names and versions in their normal form, which the allow list is asked about; nothing
else of a request is used: no query, no header but Host, no body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal
from urllib.parse import unquote

import msgspec

from modelplex.packages.names import Ecosystem, normal_name, normal_version, of_file, tarball_name

MAX_PATH: Final = 1_024
"""Bytes of a path. The longest of an index has some 300."""
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*", re.ASCII)
METADATA: Final = ".metadata"
"""The suffix of a wheel's metadata file (PEP 658)."""

WantedKind = Literal["index", "page", "file", "metadata"]


class Site(msgspec.Struct, frozen=True):
    """An address that the mirror answers: an index below `base` (without a slash at its end), or
    only files, where `base` is None.
    """

    ecosystem: Ecosystem
    base: str | None


class Wanted(msgspec.Struct, frozen=True):
    """index     the list of all packages, or the registry's root
    page      a package: PyPI's page, npm's packument
    file      a wheel, a source archive or a tarball
    metadata  of a wheel
    """

    ecosystem: Ecosystem
    kind: WantedKind
    name: str = ""
    version: str = ""
    filename: str = ""

    def __str__(self) -> str:
        return f"{self.ecosystem}:{self.filename or self.name}"


def read_path(sites: Mapping[str, Sequence[Site]], host: str, raw_path: str) -> Wanted | None:
    """What a GET of this path from this Host asks for; None for nothing that a mirror has.
    `sites` are by `host` or `host:port`, in lower case.
    """
    if len(raw_path) > MAX_PATH:
        return None
    path = unquote(raw_path)
    for site in sites.get(host.lower(), ()):
        read = _pypi if site.ecosystem == "pypi" else _npm
        if (found := read(site, path)) is not None:
            return found
    return None


def _pypi(site: Site, path: str) -> Wanted | None:
    if site.base is not None and (rest := _below(site.base, path)) is not None:
        if rest in {"", "/"}:
            return Wanted("pypi", "index")
        name = normal_name("pypi", rest.strip("/"))
        if name is not None and rest.count("/") <= 2:
            return Wanted("pypi", "page", name)
    filename = path.rpartition("/")[2]
    wheel = filename.removesuffix(METADATA)
    if not _FILE.fullmatch(filename) or (found := of_file(wheel)) is None:
        return None
    return Wanted("pypi", "file" if wheel == filename else "metadata", *found, wheel)


def _npm(site: Site, path: str) -> Wanted | None:
    if site.base is not None and (rest := _below(site.base, path)) is not None:
        if rest in {"", "/"}:
            return Wanted("npm", "index")
        if (name := normal_name("npm", rest[1:])) is not None:
            return Wanted("npm", "page", name)
    before, mark, filename = path.partition("/-/")
    parts = before.split("/")
    name = "/".join(parts[-2:]) if len(parts) > 1 and parts[-2].startswith("@") else parts[-1]
    if not mark or (normal := normal_name("npm", name)) is None:
        return None
    stem = normal.rpartition("/")[2]
    written = filename.rpartition("/")[2]
    if not written.startswith(f"{stem}-"):
        return None
    version = normal_version("npm", written.removeprefix(f"{stem}-").removesuffix(".tgz"))
    if version is None or tarball_name(normal, version) != written:
        return None
    return Wanted("npm", "file", normal, version, written)


def _below(base: str, path: str) -> str | None:
    """The rest of a path below a base, from its slash; None for another path."""
    if path == base:
        return ""
    return path.removeprefix(base) if path.startswith(f"{base}/") else None
