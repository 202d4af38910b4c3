"""Names and versions of packages, as PyPI and npm compare them. Pure.

Source: PEP 503 (names), PEP 440 (versions), PEP 427 and 625 (file names), and the package.json
documentation of npm.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

Ecosystem: TypeAlias = Literal["pypi", "npm"]

MAX_NAME: Final = 214
"""Characters of a name: npm's limit, which is above any name of PyPI."""
_PYPI_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", re.ASCII)
_NPM_NAME: Final = re.compile(r"(@[A-Za-z0-9~-][A-Za-z0-9._~-]*/)?[A-Za-z0-9~-][A-Za-z0-9._~-]*", re.ASCII)
_NPM_VERSION: Final = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]*)?", re.ASCII)
_VERSION: Final = re.compile(
    r"""v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)
    (?:[-_.]?(?P<pre>a|b|c|rc|alpha|beta|pre|preview)[-_.]?(?P<pre_n>\d*))?
    (?P<post>(?:-(?P<post_n1>\d+))|(?:[-_.]?(?:post|rev|r)[-_.]?(?P<post_n2>\d*)))?
    (?P<dev>[-_.]?dev[-_.]?(?P<dev_n>\d*))?
    (?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?""",
    re.VERBOSE | re.ASCII,
)
_PRE: Final = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}
_SDIST: Final = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)\.(?:tar\.gz|zip|tar\.bz2|tar\.xz|tgz)", re.ASCII)


def normal_name(ecosystem: Ecosystem, name: str) -> str | None:
    """The name as it is compared, or None for what is no name."""
    if len(name) > MAX_NAME:
        return None
    if ecosystem == "npm":
        return name if _NPM_NAME.fullmatch(name) else None
    return re.sub(r"[-_.]+", "-", name).lower() if _PYPI_NAME.fullmatch(name) else None


def normal_version(ecosystem: Ecosystem, version: str) -> str | None:
    """The version as it is compared, without trailing zeros of a release for PyPI, or None for what
    is no version.
    """
    if len(version) > MAX_NAME:
        return None
    if ecosystem == "npm":
        return version if _NPM_VERSION.fullmatch(version) else None
    found = _VERSION.fullmatch(version.strip().lower())
    if found is None:
        return None
    release = [int(part) for part in found["release"].split(".")]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    text = f"{int(found['epoch'] or 0)}!" + ".".join(map(str, release))
    if found["pre"]:
        text += f"{_PRE.get(found['pre'], found['pre'])}{int(found['pre_n'] or 0)}"
    if found["post"]:
        text += f".post{int(found['post_n1'] or found['post_n2'] or 0)}"
    if found["dev"]:
        text += f".dev{int(found['dev_n'] or 0)}"
    return text + (f"+{re.sub('[-_]', '.', found['local'])}" if found["local"] else "")


def of_file(filename: str) -> tuple[str, str] | None:
    """The normal name and version of a wheel or source archive of PyPI."""
    if filename.endswith(".whl"):
        parts = filename.removesuffix(".whl").split("-")
        if len(parts) not in {5, 6}:
            return None
        name, version = parts[0], parts[1]
    elif found := _SDIST.fullmatch(filename):
        name, version = found["name"], found["version"]
    else:
        return None
    normal = normal_name("pypi", name), normal_version("pypi", version)
    return normal if normal[0] is not None and normal[1] is not None else None  # type: ignore[return-value]


def tarball_name(name: str, version: str) -> str:
    """The file name of a version of npm."""
    return f"{name.rpartition('/')[2]}-{version}.tgz"
