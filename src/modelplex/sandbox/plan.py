"""The plan of a sandbox: its mounts, environment, files and working folder, from the arguments of
`modelplex run`. It is sent to the process that builds the sandbox (inside.py).
"""

# Paths of another root, and links that are not to be followed, are text.
# ruff: noqa: PTH100, PTH109, PTH110, PTH112, PTH118, PTH120, PTH207
from __future__ import annotations

import argparse
import glob
import os
import pwd
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from modelplex.sandbox.arguments import CONFIG
from modelplex.sandbox.cannot_run import CannotRun
from modelplex.sandbox.environment import NODE, PYTHON, environment
from modelplex.sandbox.folders import (
    HIDDEN_OF_PROC,
    RUN,
    Mount,
    MountRequest,
    mounts,
    nearest,
    of_program,
    other_paths,
    pinned,
    programs,
    read_mounts,
    works_in,
)

LOCK: Final = "modelplex.mcp.lock"
_PACKAGE: Final = Path(__file__).resolve().parent.parent
START: Final = (
    f"import sys; sys.path.insert(0, {str(_PACKAGE.parent)!r}); "
    "from modelplex.sandbox.{module} import main; sys.exit(main(sys.argv[1:]))"
)


def working_folder() -> str:
    try:
        return os.path.realpath(os.getcwd())
    except FileNotFoundError:
        raise CannotRun("the working folder has been removed: start in one that is there.") from None


def say(sentence: str) -> None:
    sys.stderr.write(f"modelplex run: {sentence}\n")
    sys.stderr.flush()


def interpreter_words(module: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", START.format(module=module)]


def plan_of(arguments: argparse.Namespace, command: list[str], private: Path, gateway: str) -> dict[str, Any]:
    home = _home()
    here = working_folder()
    files = _files()
    own = [str(_PACKAGE), *of_program(sys.executable, home=home), sys.prefix, sys.base_prefix]
    config = os.path.realpath(arguments.config or CONFIG)
    folder = here if works_in(here, homes=[home, *homes()]) else ""
    read_only, writable = _named(arguments, here=folder)
    wanted = MountRequest(
        way=arguments.fs or "private",
        folder=folder,
        home=home,
        read_only=read_only,
        writable=writable,
        own=[os.path.abspath(path) for path in own],
        programs=programs(command[0], environ=os.environ, home=home),
        covered=[
            *_covered(config, gateway),
            *([str(private)] if nearest(str(private), [*read_only, *writable]) else []),
        ],
        is_root=os.geteuid() == 0,
    )
    is_shared = nearest(here, [folder, *read_only, *writable] if folder else [*read_only, *writable]) > 0
    if not is_shared and wanted.way != "host":
        say(
            f"{here} is not shared, since it is, or holds, a home folder or the system's: start in a folder of a project's, or name one by --rw PATH"
        )
    is_seen = wanted.way != "private" or is_shared
    steps = pinned(mounts(wanted), named=read_only)
    root = private / "root"
    root.mkdir()
    environ = environment(
        os.environ, named=arguments.env, has_python=f"{PYTHON}/client.py" in files, has_node=NODE in files
    )
    environ["HOME"] = home
    # At its end, so that `python` is there where the system has only a `python3`.
    environ["PATH"] = os.pathsep.join(
        [*filter(None, [environ.get("PATH")]), str(Path(os.path.abspath(sys.executable)).parent)]
    )
    return {
        "command": command,
        "environ": environ,
        "folder": here if is_seen else home,
        "gateway": os.path.realpath(gateway),
        "root": str(root),
        "mounts": steps,
        "files": files,
        "netlink": arguments.netlink,
        "is_root": wanted.is_root,
        "terminal": _terminal(),
        "ignored": _ignored(),
        "bwrap": _bwrap(steps) if arguments.bwrap else None,
    }


def _home() -> str:
    named = os.environ.get("HOME", "")
    if not named.startswith("/"):
        with suppress(KeyError):
            named = pwd.getpwuid(os.geteuid()).pw_dir
    return os.path.realpath(named) if named.startswith("/") else "/"


def homes() -> list[str]:
    """The home folders of who we are, and of who became that (by sudo, say), whatever HOME says."""
    numbers = {os.geteuid()}
    with suppress(OSError, ValueError):
        numbers.add(int(Path("/proc/self/loginuid").read_text()))
    with suppress(ValueError):
        numbers.add(int(os.environ.get("SUDO_UID", "")))
    found: list[str] = []
    for number in numbers:
        with suppress(KeyError, OverflowError):
            folder = os.path.realpath(pwd.getpwuid(number).pw_dir)
            found += [folder] if folder != "/" else []
    return found


def _named(arguments: argparse.Namespace, *, here: str) -> tuple[list[str], list[str]]:
    """The folders and files of --ro and --rw, each by the one path that it has. Raises CannotRun
    where one is named as both, under whatever name.
    """
    read_only = list(dict.fromkeys(_existing(path) for path in arguments.ro))
    writable = list(dict.fromkeys(_existing(path) for path in arguments.rw))
    for path in writable:
        if any(Path(path).samefile(other) for other in read_only):
            raise CannotRun(f"{path} is named by --ro and by --rw: it can be one of the two.")
    # A folder has two paths where it is mounted twice; what is said of one holds for the other.
    mounted = read_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    within = [*writable, *filter(None, [here])]
    read_only += [
        other
        for path in tuple(read_only)
        for other in other_paths(path, mounted, within=within)
        if other not in writable
    ]
    return list(dict.fromkeys(read_only)), writable


def _existing(path: str) -> str:
    real = os.path.realpath(path)
    if real == "/":
        raise CannotRun("the whole tree is shown by --fs ro, or by --fs host.")
    if any(f"{real}/".startswith(f"{own}/") for own in ("/proc", "/sys", "/dev")):
        raise CannotRun(f"{path} cannot be shown: /proc, /sys and /dev are the sandbox's own.")
    if real == "/run" or nearest(real, [RUN]):
        raise CannotRun(f"{path} cannot be shown: {RUN} is the sandbox's own. Name what you need below /run.")
    if not os.path.lexists(real):
        raise CannotRun(f"{path} is to be shown, and is not there.")
    return real


def _covered(config: str, gateway: str) -> list[str]:
    """What the program is not to see, or not to put something else in the place of: the config,
    what approves tools, the gateway's sockets, and what it keeps, with the files beside it that are
    of the same name.
    """
    from modelplex.config.state_folder import state_folder

    found = [config, os.path.join(os.path.dirname(config), LOCK), gateway]
    with suppress(RuntimeError):
        found.append(str(state_folder(None, environ=os.environ)))
    for path in files_of_config(config):
        # An older log (.1), a database's journal (-wal).
        found += [path, *glob.glob(f"{glob.escape(path)}[.-]*")]
    return list(dict.fromkeys(os.path.realpath(path) for path in found if os.path.lexists(path)))


def files_of_config(config: str) -> list[str]:
    """The files and sockets that a config has the gateway make. A config that cannot be read is the
    gateway's to complain of.
    """
    import tomllib

    try:
        read: dict[str, Any] = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found: list[str] = []
    for table, name in (
        ("server", "state_folder"),
        ("server", "keep_responses"),
        ("log", "file"),
        ("mcp", "lock_file"),
    ):
        try:
            value: Any = read[table][name]
        except (LookupError, TypeError):
            continue
        if not isinstance(value, str) or (name == "keep_responses" and value == "memory"):
            continue
        # This one alone is looked for beside the config.
        found.append(os.path.join(os.path.dirname(config), value) if name == "lock_file" else value)
    return found + _sockets(read)


def _sockets(read: dict[str, Any]) -> list[str]:
    """Of the agents. The gateway's own is the one that we name."""
    agents: Any = read.get("agents")
    named: list[Any] = [agent.get("socket") for agent in agents] if _is_tables(agents) else []
    return [path for path in named if isinstance(path, str)]


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)  # pyright: ignore[reportUnknownVariableType]


def _files() -> dict[str, str]:
    """What is put into the sandbox for Python and Node, by path: they learn `unix:` addresses from
    it.
    """
    found: dict[str, str] = {}
    client = _PACKAGE / "client.py"
    if client.is_file():
        found[f"{PYTHON}/sitecustomize.py"] = Path(__file__).with_name("sitecustomize.py").read_text()
        found[f"{PYTHON}/client.py"] = client.read_text()
    client = _PACKAGE / "client.mjs"
    if client.is_file():
        found[NODE] = client.read_text()
    return found


def _ignored() -> list[int]:
    """What the shell had us ignore (nohup does), which the program ignores too. Python's own two
    are not meant.
    """
    own = {signal.SIGPIPE, signal.SIGXFSZ}
    return [int(n) for n in signal.valid_signals() - own if signal.getsignal(n) is signal.SIG_IGN]


def _terminal() -> str | None:
    for number in (0, 1, 2):
        with suppress(OSError):
            return os.ttyname(number)
    return None


def _bwrap(steps: Sequence[Mount]) -> list[str]:
    """The words that have bubblewrap build the same tree. Raises CannotRun."""
    program = shutil.which("bwrap")
    if program is None:
        raise CannotRun(
            "bubblewrap is not installed: install it (apt-get install bubblewrap), or leave --bwrap out."
        )
    # Its own first process would be open to the program, and is behind no filter: the supervisor is
    # the first.
    words = [program, "--unshare-pid", "--as-pid-1", "--die-with-parent"]
    # The one capability by which the supervisor rids itself of the rest.
    words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETPCAP"]
    for kind, target, source in steps:
        match kind:
            case "ro":
                words += ["--ro-bind", source, target]
            case "rw":
                words += ["--bind", source, target]
            case "empty":
                words += ["--perms", "1777" if target in {"/tmp", "/var/tmp"} else "0755", "--tmpfs", target]  # noqa: S108
            case "link":
                words += ["--symlink", source, target]
            case "cover":
                if os.path.isdir(target):
                    words += ["--tmpfs", target, "--remount-ro", target]
                else:
                    words += ["--ro-bind", "/dev/null", target]
        if target == "/":
            words += ["--tmpfs", "/sys"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--chdir", "/"]  # noqa: S108
    if os.geteuid() == 0:
        words += ["--ro-bind", "/proc/sys", "/proc/sys"]
        for path in (f"/proc/{name}" for name in HIDDEN_OF_PROC):
            if os.path.isdir(path):
                words += ["--tmpfs", path, "--remount-ro", path]
            elif os.path.exists(path):
                words += ["--ro-bind", "/dev/null", path]
    return [*words, "--", *interpreter_words("inside")]
