"""Which indexes the host's own pip, uv and npm use: from their variables, and from the files of the
user and the system. Files of the project are not read, since a program that ran in it may have
written them.
"""

from __future__ import annotations

import base64
import configparser
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit, urlunsplit

PYPI: Final = "https://pypi.org/simple"
NPM: Final = "https://registry.npmjs.org"
_VARIABLE: Final = re.compile(r"\$\{(\w+)\??\}")


class HostIndex(NamedTuple):
    """`url` as a tool has it, or None for its default; `ca_file` is what the tool trusts."""

    url: str | None
    ca_file: str | None = None


class HostSettings(NamedTuple):
    pip: HostIndex
    uv: HostIndex
    npm: HostIndex


def read_host_settings(
    environ: Mapping[str, str], *, home: Path, without: Path, system: Path = Path("/")
) -> HostSettings:
    """`without` is the project's folder: no file in it is read. `system` has the system's files."""

    def text(path: Path) -> str:
        real = Path(os.path.realpath(path))
        if real.is_relative_to(without):
            return ""
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return HostSettings(
        _pip(environ, [text(each) for each in _pip_files(environ, home, config, system)]),
        _uv(environ, [text(each / "uv/uv.toml") for each in (config, system / "etc")]),
        _npm(environ, [text(each) for each in _npm_files(environ, home, system)]),
    )


def _pip_files(environ: Mapping[str, str], home: Path, config: Path, system: Path) -> Sequence[Path]:
    """The nearest first."""
    files: list[Path] = []
    if named := environ.get("PIP_CONFIG_FILE"):
        files.append(Path(named))
    if virtual := environ.get("VIRTUAL_ENV"):
        files.append(Path(virtual, "pip.conf"))
    files += [config / "pip/pip.conf", home / ".pip/pip.conf"]
    shared = environ.get("XDG_CONFIG_DIRS") or str(system / "etc/xdg")
    files += [Path(each, "pip/pip.conf") for each in shared.split(":") if each]
    return [*files, system / "etc/pip.conf"]


def _pip(environ: Mapping[str, str], files: Iterable[str]) -> HostIndex:
    url, ca_file = environ.get("PIP_INDEX_URL"), environ.get("PIP_CERT")
    for content in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(content)
        except configparser.Error:
            continue
        for section in ("install", "global"):
            url = url or parser.get(section, "index-url", fallback=None)
            ca_file = ca_file or parser.get(section, "cert", fallback=None)
    return HostIndex(url or None, ca_file or None)


def _uv(environ: Mapping[str, str], files: Iterable[str]) -> HostIndex:
    url = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    for content in files:
        try:
            table = tomllib.loads(content)
        except ValueError:
            continue
        indexes: object = table.get("index")
        for each in cast("list[object]", indexes) if isinstance(indexes, list) else []:
            if isinstance(each, dict) and cast("dict[str, Any]", each).get("default"):
                url = url or _text(cast("dict[str, Any]", each).get("url"))
        pip = table.get("pip")
        inner = cast("dict[str, Any]", pip) if isinstance(pip, dict) else {}
        url = url or _text(table.get("index-url")) or _text(inner.get("index-url"))
    # A default may have a name: NAME=URL.
    return HostIndex(
        re.sub(r"^[\w.-]+=(?=https?://)", "", url) if url else None, environ.get("SSL_CERT_FILE")
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _npm_files(environ: Mapping[str, str], home: Path, system: Path) -> Sequence[Path]:
    named = environ.get("NPM_CONFIG_USERCONFIG") or environ.get("npm_config_userconfig")
    return [
        Path(named) if named else home / ".npmrc",
        *(system / each for each in ("usr/local/etc/npmrc", "usr/etc/npmrc", "etc/npmrc")),
    ]


def _npm(environ: Mapping[str, str], files: Iterable[str]) -> HostIndex:
    found: dict[str, str] = {}
    for name, value in environ.items():
        if name.lower() in {"npm_config_registry", "npm_config_cafile"} and value:
            found.setdefault(name.lower().removeprefix("npm_config_"), value)
    for content in files:
        for line in content.splitlines():
            key, mark, value = (part.strip() for part in line.partition("="))
            if mark and key in {"registry", "cafile"}:
                value = _VARIABLE.sub(lambda match: environ.get(match[1], ""), value.strip("\"'"))
                found.setdefault(key, value)
    return HostIndex(found.get("registry"), found.get("cafile"))


def split_user(url: str) -> tuple[str, str | None]:
    """A URL without user and password and without a slash at its end, and the header that they
    make.
    """
    parts = urlsplit(url.strip())
    user, mark, server = parts.netloc.rpartition("@")
    bare = urlunsplit((parts.scheme, server.lower(), parts.path.rstrip("/"), "", ""))
    if not mark:
        return bare, None
    return bare, "Basic " + base64.b64encode(unquote(user).encode()).decode()
