"""The release of an installed program, read from its files: nothing is started on the host."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MAX_MANIFEST: Final = 1_000_000
"""Bytes of a package.json."""
RELEASE: Final = re.compile(r"v?(\d+(?:\.\d+){1,3})(?:[-+.a-z0-9]*)?", re.ASCII)


def installed_release(program: str, *, package: str = "") -> str | None:
    """The release of the program at this path: of the npm package or (as `package`) the Python
    environment that it is in, or in a folder or file name of its path, as Homebrew and vendors'
    installers make them. None where no file says.
    """
    real = Path(os.path.realpath(program))
    if package and (release := _of_environment(real, package)):
        return release
    for folder in real.parents:
        if (folder / "package.json").is_file() and (release := _of_manifest(folder / "package.json")):
            return release
        if folder.name == "node_modules":
            break
    names = [real.name, *(folder.name for folder in real.parents)]
    return next((found[1] for name in names if (found := RELEASE.fullmatch(name))), None)


def _of_environment(real: Path, package: str) -> str | None:
    stem = re.sub(r"[-_.]+", "_", package).lower()
    for folder in _site_packages(real):
        for found in folder.glob("*.dist-info"):
            name, _, release = found.name.removesuffix(".dist-info").partition("-")
            if re.sub(r"[-_.]+", "_", name).lower() == stem:
                return release
    return None


def _site_packages(real: Path) -> Iterator[Path]:
    return real.parent.parent.glob("lib/python3*/site-packages")


def _of_manifest(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            release = json.loads(opened.read(MAX_MANIFEST))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return release if isinstance(release, str) else None


def is_newer(release: str, tested: str) -> bool:
    """By their numbers; a release that has none is not."""
    found, known = RELEASE.match(release), RELEASE.match(tested)
    return bool(found and known) and _numbers(found[1]) > _numbers(known[1])  # type: ignore[index]


def _numbers(release: str) -> list[int]:
    return [int(part) for part in release.split(".")]
