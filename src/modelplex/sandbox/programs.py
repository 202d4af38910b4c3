"""The installations on the PATH: which folders and files a sandbox shows read-only, so that the
programs of the host run inside.

A link on the PATH is followed to the installation that it leads to. Managers of toolchains, whose
programs start others elsewhere in the home, are a table: of their folders it names the parts with
programs, not those with credentials. A link that lies in a writable folder may be an earlier
program's of a sandbox, and leads to the parts in the table alone.
"""

# Paths of another root, and links that must not be followed, are text.
# ruff: noqa: PTH100, PTH112, PTH114, PTH115, PTH118, PTH119, PTH120, PTH207
from __future__ import annotations

import glob
import json
import os
import shutil
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast

from modelplex.sandbox.folders import SYSTEM, can_share, nearest


class Root(NamedTuple):
    """`variable` names it on the host, else it is `folder` of the home. `parts` are patterns of
    what is shown, "." for all of it.
    """

    variable: str
    folder: str
    parts: str


Toolchain: TypeAlias = tuple[Root, ...]
"""Shown together, once something on the PATH leads into one of the folders."""

TOOLCHAINS: Final[tuple[Toolchain, ...]] = (
    (
        Root("CARGO_HOME", ".cargo", "bin env registry"),
        Root("RUSTUP_HOME", ".rustup", "toolchains settings.toml update-hashes"),
    ),
    (Root("VOLTA_HOME", ".volta", "bin tools volta* layout.v*"),),
    (
        Root("UV_TOOL_DIR", ".local/share/uv/tools", "."),
        Root("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python", "."),
    ),
    (
        Root("PIPX_HOME", ".local/share/pipx", "venvs shared py"),
        Root("", ".local/pipx", "venvs shared py"),
    ),
    (
        Root("MISE_DATA_DIR", ".local/share/mise", "bin shims installs plugins"),
        Root("", ".tool-versions", "."),
    ),
    (
        Root("ASDF_DATA_DIR", ".asdf", "."),
        Root("ASDF_DIR", ".asdf", "."),
        Root("", ".tool-versions", "."),
        Root("", ".asdfrc", "."),
    ),
    *((Root(f"{name.upper()}_ROOT", f".{name}", "."),) for name in "pyenv rbenv nodenv goenv jenv".split()),
    (Root("NVM_DIR", ".nvm", "versions alias nvm.sh nvm-exec bash_completion"),),
    (Root("FNM_DIR", ".local/share/fnm", "node-versions aliases"),),
    (Root("SDKMAN_DIR", ".sdkman", "bin candidates"),),
    (Root("GOPATH", "go", "bin pkg/mod"),),
    (Root("BUN_INSTALL", ".bun", "bin install/global"),),
    (Root("DENO_INSTALL", ".deno", "bin"),),
    (Root("PNPM_HOME", ".local/share/pnpm", "."),),
    (Root("DOTNET_ROOT", ".dotnet", "dotnet host sdk sdk-manifests shared packs templates tools"),),
    *((Root("", name, "."),) for name in "miniconda3 miniforge3 mambaforge anaconda3".split()),
    *((Root("", name, "."),) for name in (".local/opt", "opt")),
)
"""Not: `.cargo/credentials.toml` and `config.toml` (tokens), `.cargo/git` (addresses with tokens),
`.dotnet/corefx` (keys of certificates), `~/.local/share/uv/credentials`.
"""
INSTALLATIONS: Final = ("JAVA_HOME", "GOROOT", "MAVEN_HOME", "M2_HOME")
"""Variables that name one, shown as a whole."""
VARIABLES: Final = tuple(
    dict.fromkeys(
        [
            *(root.variable for toolchain in TOOLCHAINS for root in toolchain if root.variable),
            *INSTALLATIONS,
            "RUSTUP_TOOLCHAIN",
        ]
    )
)
SECRETS: Final = (
    *"pip.conf .npmrc npmrc etc/npmrc .condarc uv-receipt.toml credentials credentials.toml auth.json".split(),
    "cache/vcs",  # of GOPATH/pkg/mod: clones, whose addresses may have tokens
)
"""Files that may hold a token in an installation, masked at its top and in the two levels below."""
SCANNED_NOT: Final = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin"})
"""Folders of the PATH that belong to the distribution."""
PLACES: Final = (".local/opt", ".local/lib", ".local/share", "opt")
"""Folders of a home where installations are; see `_installation`."""
ENVIRONMENTS: Final = (".venv", "venv", "env")
"""Virtual environments in a project, whose Python is elsewhere."""
MAX_LINKS: Final = 40
"""The kernel's limit of links in a path."""


class _Shown(NamedTuple):
    root: str
    parts: str
    is_set: bool
    """Whether a variable names it."""


def programs(
    command: str, *, environ: Mapping[str, str], home: str, folder: str = "", writable: Sequence[str] = ()
) -> list[str]:
    """The paths that the command, the programs on the PATH and the virtual environments in `folder`
    need. `writable` are the folders that a sandbox may have changed.
    """
    toolchains = [_located(toolchain, environ=environ, home=home) for toolchain in TOOLCHAINS]
    roots = [shown.root for toolchain in toolchains for shown in toolchain if shown.parts != "."]
    reached = [hop for path in _environments(folder) for hop in _hops(path)]
    found: list[str] = []
    for path in _of_path(environ):
        links = [] if path in SCANNED_NOT else _links(path)
        reached += [path, os.path.realpath(path), *(hop for link in links for hop in _hops(link))]
        if not _is_in(path, writable):
            found += _of_folder(path, home=home, roots=roots)
            found += [each for link in links for each in of_program(link, home=home, roots=roots)]
    if (started := shutil.which(command, path=environ.get("PATH"))) is not None:
        reached += _hops(started)
        if not _is_in(os.path.abspath(started), writable):
            found += of_program(started, home=home, roots=roots)
    for toolchain in toolchains:
        if any(shown.is_set or any(nearest(path, [shown.root]) for path in reached) for shown in toolchain):
            found += [path for shown in toolchain for path in _parts(shown)]
    found += [environ[name] for name in INSTALLATIONS if name in environ]
    found = [os.path.normpath(path) for path in found if path.startswith("/")]
    found += [os.path.realpath(path) for path in found]
    return [path for path in dict.fromkeys(found) if os.path.lexists(path) and can_share(path, home=home)]


def secrets_of(paths: Iterable[str]) -> list[str]:
    """What must be masked in these installations."""
    return [
        path
        for shown in paths
        if os.path.isdir(shown) and not nearest(shown, [f"/{name}" for name in SYSTEM])
        for name in SECRETS
        for above in ("", "*/", "*/*/")
        for path in glob.glob(f"{glob.escape(shown)}/{above}{name}")
    ]


def program_outside(name: str, *, writable: Sequence[str]) -> str | None:
    """A program of the PATH, none that a sandbox may have put into one of these folders."""
    folders = [path for path in _of_path(os.environ) if not _is_in(path, writable)]
    found = shutil.which(name, path=os.pathsep.join(folders))
    return None if found is None or _is_in(found, writable) else found


def _located(toolchain: Toolchain, *, environ: Mapping[str, str], home: str) -> list[_Shown]:
    found: list[_Shown] = []
    for variable, folder, parts in toolchain:
        named = [path for path in environ.get(variable, "").split(os.pathsep) if path.startswith("/")]
        for path in named or [f"{home}/{folder}"]:
            real = os.path.realpath(path)
            found += [_Shown(each, parts, bool(named)) for each in dict.fromkeys([path, real])]
    return found


def _parts(shown: _Shown) -> list[str]:
    if shown.parts == ".":
        return [shown.root]
    return [path for part in shown.parts.split() for path in glob.glob(f"{glob.escape(shown.root)}/{part}")]


def _of_path(environ: Mapping[str, str]) -> list[str]:
    folders = environ.get("PATH", "").split(os.pathsep)
    return [path for path in dict.fromkeys(folders) if path.startswith("/") and os.path.isdir(path)]


def _is_in(path: str, folders: Iterable[str]) -> bool:
    """Whether a path, or what it leads to, is in one of these."""
    return any(nearest(each, folders) for each in (os.path.normpath(path), os.path.realpath(path)))


def _links(folder: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(folder) if entry.is_symlink()]
    except OSError:
        return []


def _hops(path: str) -> list[str]:
    """The path, each link that it leads to, and the end of them."""
    found: list[str] = []
    seen = os.path.abspath(path)
    for _ in range(MAX_LINKS):
        found.append(seen)
        if not os.path.islink(seen):
            break
        seen = os.path.normpath(os.path.join(os.path.dirname(seen), os.readlink(seen)))
    return [*found, os.path.realpath(path)]


def _environments(folder: str) -> list[str]:
    """Of the virtual environments in a project: the interpreter, and the one that it is made of."""
    prefixes = [f"{folder}/{name}" for name in ENVIRONMENTS] if folder else []
    return [path for prefix in prefixes for path in (f"{prefix}/bin/python", _base(prefix)) if path]


def _of_folder(folder: str, *, home: str, roots: Sequence[str]) -> list[str]:
    """Shims (of pyenv, asdf) start programs beside their folder."""
    prefix = os.path.dirname(os.path.realpath(folder))
    if os.path.basename(folder) == "shims" and _may_be_whole(prefix, home=home, roots=roots):
        return [prefix]
    return [folder, os.path.realpath(folder), *_of_prefix(prefix, home=home, roots=roots)]


def of_program(path: str, *, home: str, roots: Sequence[str] = ()) -> list[str]:
    """The file, the links that lead to it, and its installation. `roots` are folders of which only
    parts are shown.
    """
    found: list[str] = []
    for hop in _hops(path):
        prefix = os.path.dirname(os.path.dirname(hop))
        found += [*_of_prefix(prefix, home=home, roots=roots), hop]
    # A package of npm finds others beside it.
    modules, is_of_npm, _ = found[-1].partition("/node_modules/")
    if is_of_npm and can_share(modules, home=home):
        found.append(f"{modules}/node_modules")
    return [*found, *_installation(os.path.realpath(path), home=home, roots=roots)]


def _installation(program: str, *, home: str, roots: Sequence[str]) -> list[str]:
    """The folder of a program without `lib`: Go's, or a script with its files beside it. In a home
    only below PLACES, and not a folder with all of an application's data, such as
    ~/.local/share/NAME.
    """
    folder = os.path.dirname(program)
    if os.path.basename(folder) == "bin":
        folder = os.path.dirname(folder)
    for place in PLACES:
        rest = folder.removeprefix(f"{home}/{place}/")
        depth = 2 if place == ".local/share" else 1
        if rest != folder and rest.count("/") >= depth - 1 and _may_be_whole(folder, home=home, roots=roots):
            return [folder]
    return []


def _may_be_whole(prefix: str, *, home: str, roots: Sequence[str]) -> bool:
    """Not ~/.local, which may contain keys, nor a folder of which only parts are shown."""
    if prefix in {home, f"{home}/.local", "/", ""} or any(nearest(root, [prefix]) for root in roots):
        return False
    return can_share(prefix, home=home)


def _of_prefix(prefix: str, *, home: str, roots: Sequence[str]) -> list[str]:
    """An installation, such as a virtual environment, has a folder `lib` beside `bin`."""
    if not _may_be_whole(prefix, home=home, roots=roots):
        return []
    if not (os.path.isdir(f"{prefix}/bin") and os.path.isdir(f"{prefix}/lib")):
        return []
    base = os.path.dirname(os.path.realpath(_base(prefix) or prefix))
    if not _base(prefix) or base == prefix:
        return [prefix]
    return [prefix, *_of_prefix(base, home=home, roots=roots)]


def _base(prefix: str) -> str:
    """The folder with the interpreter that a virtual environment is made of, "" for others."""
    try:
        rows = Path(prefix, "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    named = (row.partition("=") for row in rows)
    return next((value.strip() for name, _, value in named if name.strip() == "home"), "")


# --- mise ---


def mise_files(environ: Mapping[str, str], *, home: str) -> dict[str, str]:
    """The user's choice of tools, by path: of mise's config, whose other tables may hold secrets,
    the versions alone.
    """
    base = environ.get("MISE_CONFIG_DIR") or f"{environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/mise"
    try:
        read = tomllib.loads(Path(base, "config.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    tools = read.get("tools")
    rows = [
        f"{json.dumps(name)} = {json.dumps(version)}\n"
        for name, chosen in (cast("dict[str, Any]", tools) if isinstance(tools, dict) else {}).items()
        if (version := _version(chosen)) is not None
    ]
    return {f"{home}/.config/mise/config.toml": "".join(["[tools]\n", *rows])}


def _version(chosen: object) -> str | list[str] | None:
    match chosen:
        case str():
            return chosen
        case {"version": str(version)}:
            return version
        case list():
            several = (_version(each) for each in cast("list[object]", chosen))
            return [version for version in several if isinstance(version, str)]
        case _:
            return None
