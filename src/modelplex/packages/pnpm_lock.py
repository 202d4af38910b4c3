"""Reads pnpm-lock.yaml without a YAML parser. Pure.

pnpm writes one form: below `packages:`, one key a package at two spaces, with `resolution: {...}`
in a line at four. Lines of another form are left out, so that a package is missing rather than
wrong.
"""

from __future__ import annotations

import re
from typing import Final

from modelplex.packages.allow_list import LockedPackage, integrity_hashes
from modelplex.packages.lock_files import LockedAddress, LockFile
from modelplex.packages.names import normal_name, normal_version

_KEY: Final = re.compile(
    r"  (?P<quote>['\"]?)/?(?P<name>(?:@[^@/'\"\s]+/)?[^@/'\"\s]+)[@/](?P<version>\d[^('\"\s:]*)[^'\"]*(?P=quote):"
)
_INTEGRITY: Final = re.compile(r"    resolution: \{.*?\bintegrity: ([^,}\s]+)")
_TARBALL: Final = re.compile(r"\btarball: (https?://[^,}\s]+)")


def read_pnpm_lock(text: str) -> LockFile:
    packages: list[LockedPackage] = []
    places: set[LockedAddress] = set()
    within, key = False, None
    for line in text.splitlines():
        if not line.startswith(" "):
            if line.strip():
                within = line.rstrip() == "packages:"
        elif within and line.startswith("  ") and not line.startswith("   "):
            key = _KEY.fullmatch(line.rstrip())
        elif within and key is not None and (found := _INTEGRITY.match(line)):
            name = normal_name("npm", key["name"])
            version = normal_version("npm", key["version"].partition("_")[0])
            if name is not None and version is not None:
                packages.append(LockedPackage("npm", name, version, integrity_hashes(found[1])))
                if tarball := _TARBALL.search(line):
                    base, mark, _ = tarball[1].partition(f"/{name}/-/")
                    places.add(LockedAddress("npm", base if mark else tarball[1], is_file=not mark))
    return LockFile(tuple(packages), frozenset(places))
