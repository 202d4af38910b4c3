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
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

PYPI: Final = "https://pypi.org/simple"
NPM: Final = "https://registry.npmjs.org"
_SCOPE: Final = ":registry"
_VARIABLE: Final = re.compile(r"\$\{(\w+)\??\}")


class HostIndex(NamedTuple):
    """`url` as a tool has it, or None for its default; `ca_file` is what the tool trusts. `more`
    are indexes that it asks before `url`, `last` those that it asks for certain packages only.
    """

    url: str | None
    ca_file: str | None = None
    more: Sequence[str] = ()
    last: Sequence[str] = ()


class HostSettings(NamedTuple):
    """`scopes` are registries of npm by their scope (`@a`); `npm_keys` are headers by the address
    that npm's settings have them for (`//host/path/`), `passwords` by host, of a netrc file. Both
    are secret.
    """

    pip: HostIndex
    uv: HostIndex
    npm: HostIndex
    scopes: Mapping[str, str] = {}
    npm_keys: Mapping[str, str] = {}
    passwords: Mapping[str, str] = {}

    def authorization(self, url: str, *, is_npm: bool) -> str | None:
        """The header for an address without a user. npm looks from the whole path upwards, see
        `regFromURI` of npm-registry-fetch 18, lib/auth.js (2026-12-01).
        """
        parts = urlsplit(url)
        if not is_npm:
            return self.passwords.get(parts.hostname or "")
        place = f"//{parts.netloc}{parts.path}/"
        while len(place) > len("//"):
            if (found := self.npm_keys.get(place)) is not None:
                return found
            place = place[:-1] if place.endswith("/") else place[: place.rindex("/") + 1]
        return None


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
    npm = _npm_settings(environ, [text(each) for each in _npm_files(environ, home, system)])
    return HostSettings(
        _pip(environ, [text(each) for each in _pip_files(environ, home, config, system)]),
        _uv(environ, [text(each / "uv/uv.toml") for each in (config, system / "etc")]),
        HostIndex(npm.get("registry"), npm.get("cafile")),
        {key.removesuffix(_SCOPE): value for key, value in npm.items() if _is_scope(key)},
        _npm_keys(npm),
        _netrc(text(Path(environ.get("NETRC") or home / ".netrc"))),
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
    more = environ.get("PIP_EXTRA_INDEX_URL")
    for content in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(content)
        except configparser.Error:
            continue
        for section in ("install", "global"):
            url = url or parser.get(section, "index-url", fallback=None)
            ca_file = ca_file or parser.get(section, "cert", fallback=None)
            more = more or parser.get(section, "extra-index-url", fallback=None)
    return HostIndex(url or None, ca_file or None, tuple((more or "").split()))


def _uv(environ: Mapping[str, str], files: Iterable[str]) -> HostIndex:
    named = f"{environ.get('UV_INDEX', '')} {environ.get('UV_EXTRA_INDEX_URL', '')}".split()
    default = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    more, last = [_with_password(each, environ) for each in named], list[str]()
    for content in files:
        try:
            table = tomllib.loads(content)
        except ValueError:
            continue
        for each in _tables(table.get("index")):
            found = _with_password(f"{_text(each.get('name')) or ''}={_text(each.get('url')) or ''}", environ)
            if each.get("default"):
                default = default or found
            else:
                (last if each.get("explicit") else more).append(found)
        inner = (_tables([table.get("pip")]) or [table])[0]
        default = default or _text(table.get("index-url")) or _text(inner.get("index-url"))
        more += _texts(table.get("extra-index-url")) or _texts(inner.get("extra-index-url"))
    url = _with_password(default, environ) if default else None
    return HostIndex(url, environ.get("SSL_CERT_FILE"), tuple(filter(None, more)), tuple(filter(None, last)))


def _with_password(written: str, environ: Mapping[str, str]) -> str:
    """The address of `NAME=URL` or `URL`, with the user and password that uv has in
    UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD: docs.astral.sh/uv/concepts/indexes.
    """
    found = re.match(r"([\w.-]*)=(?=https?://)", written, re.ASCII)
    if found is None:
        return written if "://" in written else ""
    url, name = written[found.end() :], re.sub(r"\W", "_", found[1]).upper()
    user, password = (environ.get(f"UV_INDEX_{name}_{kind}", "") for kind in ("USERNAME", "PASSWORD"))
    if not (user or password) or "@" in urlsplit(url).netloc:
        return url
    return url.replace("://", f"://{quote(user, safe='')}:{quote(password, safe='')}@", 1)


def _tables(value: object) -> list[dict[str, Any]]:
    found = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", each) for each in found if isinstance(each, dict)]


def _texts(value: object) -> list[str]:
    found = cast("list[object]", value) if isinstance(value, list) else []
    return [each for each in found if isinstance(each, str)]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _npm_files(environ: Mapping[str, str], home: Path, system: Path) -> Sequence[Path]:
    named = environ.get("NPM_CONFIG_USERCONFIG") or environ.get("npm_config_userconfig")
    return [
        Path(named) if named else home / ".npmrc",
        *(system / each for each in ("usr/local/etc/npmrc", "usr/etc/npmrc", "etc/npmrc")),
    ]


def _npm_settings(environ: Mapping[str, str], files: Iterable[str]) -> dict[str, str]:
    """The first value of each key."""
    found: dict[str, str] = {}
    for name, value in environ.items():
        if name.lower() in {"npm_config_registry", "npm_config_cafile"} and value:
            found.setdefault(name.lower().removeprefix("npm_config_"), value)
        elif name.startswith("npm_config_") and re.match(r"//|@", name.removeprefix("npm_config_")):
            found.setdefault(name.removeprefix("npm_config_"), value)
    for content in files:
        for line in content.splitlines():
            key, mark, value = (part.strip() for part in line.partition("="))
            if mark and not key.startswith((";", "#")):
                value = _VARIABLE.sub(lambda match: environ.get(match[1], ""), value.strip("\"'"))
                found.setdefault(key, value)
    return found


def _is_scope(key: str) -> bool:
    return key.startswith("@") and key.endswith(_SCOPE)


def _npm_keys(settings: Mapping[str, str]) -> dict[str, str]:
    """Headers by place. A token comes before a user with a password."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        place, _, kind = key.rpartition(":")
        if not place.startswith("//") or not value:
            continue
        if kind == "_authToken":
            found[place] = f"Bearer {value}"
        elif kind == "_auth":
            found.setdefault(place, f"Basic {value}")
        elif kind == "_password" and (user := settings.get(f"{place}:username")):
            with suppress(ValueError):
                password = base64.b64decode(value)
                found.setdefault(place, _basic(f"{user}:".encode() + password))
    return found


def _netrc(content: str) -> dict[str, str]:
    """Headers by host. Lines of macros and defaults are left out."""
    found: dict[str, str] = {}
    host = user = ""
    words = iter(content.split())
    for word in words:
        match word:
            case "machine":
                host, user = next(words, ""), ""
            case "default" | "macdef":
                host = ""
            case "login":
                user = next(words, "")
            case "password":
                password = next(words, "")
                if host:
                    found.setdefault(host, _basic(f"{user}:{password}".encode()))
            case _:
                pass
    return found


def _basic(user_and_password: bytes) -> str:
    return "Basic " + base64.b64encode(user_and_password).decode()


def split_user(url: str) -> tuple[str, str | None]:
    """A URL without user and password and without a slash at its end, and the header that they
    make.
    """
    parts = urlsplit(url.strip())
    user, mark, server = parts.netloc.rpartition("@")
    bare = urlunsplit((parts.scheme, server.lower(), parts.path.rstrip("/"), "", ""))
    if not mark:
        return bare, None
    return bare, _basic(unquote(user).encode())
