"""Files of a project that make the host run something later: found here, and read-only or hidden
inside. Reads files and starts no program, git included: its configuration may name programs.

    read-only   of each git folder the configuration, hooks, and files that name other git folders;
                the settings of editors in PROJECT_FOLDERS; what a configuration includes or names
                as folder of hooks
    hidden      .env and its variants
    watched     reported at the end of the run: new repositories, and WATCHED
"""

# Paths of other roots, and links that must not be followed, are text.
# ruff: noqa: PTH112, PTH113, PTH114, PTH118, PTH120
from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from modelplex.sandbox.folders import nearest

PROJECT_FOLDERS: Final = (".vscode", ".idea")
"""Settings of editors, whose tasks run when the folder is opened."""
EXISTING_FOLDERS: Final = (".husky", ".devcontainer")
"""Protected only where they exist: nothing runs them before a protected file names them, or the
user agrees.
"""
WATCHED: Final = (
    ".mcp.json",
    ".devcontainer.json",
    ".claude/settings.json",
    ".claude/settings.local.json",
    ".cursor/mcp.json",
    ".gemini/settings.json",
    ".qwen/settings.json",
    ".codex/config.toml",
    "opencode.json",
    "opencode.jsonc",
    ".opencode/opencode.json",
    "crush.json",
    ".crush.json",
    ".aider.conf.yml",
)
"""Settings of agents, which may name programs. They stay writable, since agents save in them."""
REBASE: Final = "rebase-merge/git-rebase-todo"
"""In a git folder: `git rebase --continue` runs the programs in its lines with exec."""
TEMPLATES: Final = (".example", ".sample", ".template", ".dist", ".defaults", ".schema")
"""Endings of files like .env that have no secrets."""
NOT_SEARCHED: Final = frozenset({"node_modules", "__pycache__", ".venv", "venv", ".tox", "target"})
"""Folders of installed or built files, with many entries."""
MAX_ENTRIES: Final = 100_000
"""Files and folders that are looked at: about half a second."""
MAX_FOUND: Final = 1000
"""Each is a mount, and each mount takes memory of the kernel."""
MAX_CONFIG: Final = 262_144
"""Bytes of a configuration of git. Larger ones are usual nowhere."""
MAX_INCLUDES: Final = 10
"""The depth to which git follows includes."""
SAME_FOLDER: Final = ".\n"
"""Text of a `commondir` file that changes nothing: the git folder itself has configuration and
hooks. See gitrepository-layout(5).
"""
_SECTION = re.compile(r'\s*\[\s*([\w.-]+)(?:\s+"(?:[^"\\]|\\.)*")?\s*\]')
_SETTING = re.compile(r"\s*([A-Za-z][\w-]*)\s*=\s*(.*?)\s*$")


class Protected(NamedTuple):
    """Real paths. `missing` do not exist, or may be removed by another run: the text of each file,
    None for a folder. `links` are links, which the program can replace. `repositories` are git
    folders, and files that name one.
    """

    read_only: Sequence[str] = ()
    hidden: Sequence[str] = ()
    missing: Mapping[str, str | None] = MappingProxyType({})
    links: Sequence[str] = ()
    repositories: Sequence[str] = ()
    watched: Sequence[str] = ()
    is_complete: bool = True


class SharedPaths(NamedTuple):
    """What the program shares with the host. `project` is the working folder, "" where it is not
    shared; `named` are the user's own paths, which override protection.
    """

    project: str
    writable: Sequence[str]
    read_only: Sequence[str] = ()
    named: Sequence[str] = ()

    def is_writable(self, path: str) -> bool:
        return nearest(path, self.writable) > nearest(path, self.read_only)


def find_protected(
    shared: SharedPaths,
    *,
    home: str,
    show_env: bool = False,
    profiles: Sequence[str] = (),
    max_entries: int = MAX_ENTRIES,
) -> Protected:
    """`profiles` have options of the next run."""
    search = _Search(shared, home=home, max_entries=max_entries)
    for path in profiles:
        search.protect(path, text="")
    if shared.project:
        search.add_project(shared.project)
    search.walk()
    return search.result(show_env=show_env)


class _Search:
    def __init__(self, shared: SharedPaths, *, home: str, max_entries: int) -> None:
        self._shared = shared
        every = [*shared.writable, *shared.read_only]
        self._roots = [
            path
            for path in dict.fromkeys(every)
            if os.path.isdir(path) and not any(path.startswith(f"{other}/") for other in every)
        ]
        self._left = max_entries
        self._read_only: dict[str, None] = {}
        self._missing: dict[str, str | None] = {}
        self._hidden: dict[str, None] = {}
        self._links: dict[str, None] = {}
        self._repositories: dict[str, None] = {}
        self._watched: dict[str, None] = {}
        self._user_hooks = [
            path for file in _user_configs(home) for path in _Config(file).hooks if not path.startswith("/")
        ]

    def result(self, *, show_env: bool) -> Protected:
        hidden = [] if show_env else [path for path in self._hidden if path not in self._shared.named]
        read_only = list(self._read_only)[:MAX_FOUND]
        return Protected(
            read_only=read_only,
            hidden=hidden[:MAX_FOUND],
            missing={path: text for path, text in self._missing.items() if path in read_only},
            links=list(self._links),
            repositories=list(self._repositories),
            watched=list(self._watched),
            is_complete=self._left > 0 and len(self._read_only) <= MAX_FOUND and len(hidden) <= MAX_FOUND,
        )

    # --- the walk ---

    def walk(self) -> None:
        """Breadth first, so that the limit leaves out the deepest folders."""
        queue = deque(self._roots)
        while queue and self._left > 0:
            folder = queue.popleft()
            try:
                with os.scandir(folder) as entries:
                    queue += self._look_at(folder, list(entries))
            except OSError:
                continue  # not readable for the program either

    def _look_at(self, folder: str, entries: Sequence[os.DirEntry[str]]) -> Iterator[str]:
        """Yields folders to search."""
        self._left -= len(entries)
        if is_git_folder({entry.name for entry in entries}):
            self._add_git_folder(folder, folder)
            return
        for entry in entries:
            if entry.name == ".git":
                self._add_repository(folder)
            elif _is_env(entry.name) and entry.is_file():
                self._hide(entry.path)
            elif entry.name not in NOT_SEARCHED and entry.is_dir(follow_symlinks=False):
                yield entry.path

    def _hide(self, path: str) -> None:
        real = os.path.realpath(path)
        if nearest(real, [*self._shared.writable, *self._shared.read_only]):
            self._hidden[real] = None

    # --- what is protected ---

    def add_project(self, folder: str) -> None:
        """The working folder, or the top of the repository that it is in."""
        for name in PROJECT_FOLDERS:
            self.protect(f"{folder}/{name}")
        self._add_existing(folder)

    def _add_existing(self, folder: str) -> None:
        for name in (*PROJECT_FOLDERS, *EXISTING_FOLDERS):
            if os.path.lexists(f"{folder}/{name}"):
                self.protect(f"{folder}/{name}")
        self._watched.update((f"{folder}/{name}", None) for name in WATCHED)

    def _add_repository(self, top: str) -> None:
        """`.git` of a worktree or submodule is a file that names its git folder."""
        if nearest(self._shared.project, [top]):
            self.add_project(top)
        else:
            self._add_existing(top)
        path = f"{top}/.git"
        if os.path.isfile(path):
            self._repositories[path] = None
            self.protect(path)
            named = _read(path).removeprefix("gitdir:").strip()
            git = os.path.realpath(os.path.join(top, named)) if named else ""
        else:
            git = os.path.realpath(path)
            if git != path:
                self._links[path] = None
        if git and os.path.lexists(f"{git}/HEAD"):
            self._add_git_folder(git, top)

    def _add_git_folder(self, git: str, top: str) -> None:
        """`top` is the working tree, to which folders of hooks are relative."""
        if git in self._repositories:
            return
        self._repositories[git] = None
        self._watched[f"{git}/{REBASE}"] = None
        commondir = f"{git}/commondir"
        common = git
        if os.path.lexists(commondir):
            common = os.path.realpath(os.path.join(git, _read(commondir).strip()))
        self.protect(commondir, owner=git, text=SAME_FOLDER)
        if os.path.lexists(f"{git}/gitdir"):
            self.protect(f"{git}/gitdir", owner=git, text="")
        if common != git:
            self._add_git_folder(common, top)
            config = _Config(f"{common}/config")
        else:
            config = _Config(f"{git}/config")
            self.protect(f"{git}/config", owner=git, text="")
            self.protect(f"{git}/hooks", owner=git)
        own = f"{git}/config.worktree"
        if config.has_own_of_worktree or os.path.lexists(own):
            self.protect(own, owner=git, text="")
            config.read(own)
        for path in config.included:
            self.protect(path, text="")
        for path in (*config.hooks, *self._user_hooks):
            self.protect(os.path.realpath(os.path.join(top, path)))
        self._add_nested(git)

    def _add_nested(self, git: str) -> None:
        """The git folders of linked worktrees and submodules, whose names may have slashes."""
        for kind in ("worktrees", "modules"):
            for folder, folders, files in os.walk(f"{git}/{kind}"):
                self._left -= len(folders) + len(files)
                if self._left <= 0:
                    return
                if "HEAD" in files:
                    self._add_git_folder(folder, _tree_of(folder))
                    folders.clear()

    def protect(self, path: str, *, owner: str = "", text: str | None = None) -> None:
        """`owner` is the git folder, which makes the path writable where --rw names it. `text` is
        that of a file that does not exist; None makes a folder.
        """
        if path in self._shared.named or (owner and owner in self._shared.named):
            return
        if os.path.islink(path):
            if self._shared.is_writable(path):
                self._links[path] = None
            path = os.path.realpath(path)
        if not self._shared.is_writable(path):
            return
        if not os.path.lexists(path):
            # The topmost missing folder: those below it cannot be made then.
            while not os.path.lexists(parent := os.path.dirname(path)):
                path, text = parent, None
            if path in self._roots or not os.access(parent, os.W_OK | os.X_OK):
                return
            self._missing[path] = text
        elif _may_be_placeholder(path):
            self._missing[path] = text
        self._read_only[path] = None


def is_git_folder(names: set[str]) -> bool:
    """By the names in it; git accepts any such folder as a bare repository."""
    return {"HEAD", "objects", "refs"} <= names


def _may_be_placeholder(path: str) -> bool:
    """Whether it may be that of another run, which removes it at its end."""
    try:
        return not os.listdir(path) if os.path.isdir(path) else os.path.getsize(path) <= len(SAME_FOLDER)  # noqa: PTH202, PTH208
    except OSError:
        return False


def _is_env(name: str) -> bool:
    return name.startswith(".env") and not name.endswith(TEMPLATES)


def _tree_of(git: str) -> str:
    """The working tree of a linked worktree or a submodule."""
    if named := _read(f"{git}/gitdir").strip():
        return os.path.dirname(os.path.join(git, named))
    return git


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return os.fsdecode(file.read(MAX_CONFIG))
    except OSError:
        return ""


def _user_configs(home: str) -> list[str]:
    xdg = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return ["/etc/gitconfig", f"{xdg}/git/config", f"{home}/.gitconfig"]


class _Config:
    """Of a file in git's format: folders of hooks as they are written, and included files, whether
    their conditions hold or not.
    """

    def __init__(self, path: str) -> None:
        self.hooks: list[str] = []
        self.included: list[str] = []
        self.has_own_of_worktree = False
        self.read(path)

    def read(self, path: str, *, depth: int = 0) -> None:
        section = ""
        for row in _read(path).replace("\\\n", "").splitlines():
            rest = row
            if header := _SECTION.match(row):
                section, rest = header[1].lower().split(".")[0], row[header.end() :]
            if setting := _SETTING.match(rest):
                self._set(path, section, setting[1].lower(), _value(setting[2]), depth)

    def _set(self, path: str, section: str, name: str, value: str, depth: int) -> None:
        match section, name:
            case "core", "hookspath":
                self.hooks.append(os.path.expanduser(value))  # noqa: PTH111 - text
            case "extensions", "worktreeconfig":
                self.has_own_of_worktree = True
            case (("include" | "includeif"), "path"):
                named = os.path.join(os.path.dirname(path), os.path.expanduser(value))  # noqa: PTH111 - text
                included = os.path.normpath(named)
                if included not in self.included and depth < MAX_INCLUDES:
                    self.included.append(included)
                    self.read(included, depth=depth + 1)
            case _:
                pass


def _value(text: str) -> str:
    """Without quotes, escapes and a comment."""
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:].split('"', maxsplit=1)[0])
    return re.split(r"\s*[#;]", text, maxsplit=1)[0]
