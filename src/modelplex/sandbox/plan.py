"""Plans a sandbox from the arguments of `modelplex run`: mounts, environment, files and working
folder. inside.py builds it.
"""

# Paths of another root, and links that must not be followed, are text.
# ruff: noqa: PTH100, PTH109, PTH110, PTH112, PTH118, PTH120, PTH207
from __future__ import annotations

import argparse
import glob
import os
import pwd
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

from modelplex.sandbox.agent_home import AgentHome
from modelplex.sandbox.arguments import CONFIG
from modelplex.sandbox.environment import NODE, PYTHON, environment
from modelplex.sandbox.errors import CannotRun
from modelplex.sandbox.folders import (
    HIDDEN_OF_PROC,
    RUN,
    SHOWN_OF_SYS,
    Mount,
    MountRequest,
    access,
    is_working_folder,
    mounts,
    nearest,
    other_paths,
    pinned,
    read_mounts,
    writable_by_default,
)
from modelplex.sandbox.git import find_repository, settings_files
from modelplex.sandbox.inside import SandboxPlan
from modelplex.sandbox.limits import Enforced
from modelplex.sandbox.ports import OpenPorts
from modelplex.sandbox.profile import PROJECT_FILE
from modelplex.sandbox.programs import mise_files, of_program, program_outside, programs, secrets_of
from modelplex.sandbox.protected import Protected, SharedPaths, find_protected

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
        raise CannotRun("the working folder has been removed: start in one that exists.") from None


def print_error(sentence: str) -> None:
    sys.stderr.write(f"modelplex run: {sentence}\n")
    sys.stderr.flush()


def interpreter_command(module: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", START.format(module=module)]


def protected_files(arguments: argparse.Namespace) -> Protected:
    """The files of the project that are read-only or hidden inside. Raises CannotRun."""
    if arguments.no_protect or arguments.fs == "host":
        return Protected()
    home, folder = home_of_user(), _shared_folder()
    read_only, writable = _named_paths(arguments, folder=folder)
    named = [*read_only, *writable]
    project = [*filter(None, [folder]), *_repository(folder)]
    changeable = writable_by_default(project, read_only=read_only, writable=writable)
    shared = SharedPaths(
        project=folder,
        writable=[*writable, *changeable],
        read_only=[*read_only, *(path for path in project if path not in changeable)],
        named=named,
    )
    profiles = [arguments.profile] if arguments.profile is not None else []
    return find_protected(
        shared,
        home=home,
        show_env=arguments.show_env,
        profiles=[os.path.realpath(path) for path in (*profiles, PROJECT_FILE) if os.path.lexists(path)],
    )


def _shared_folder() -> str:
    """The working folder, or "" where it is not shared."""
    here = working_folder()
    return here if is_working_folder(here, homes=[home_of_user(), *homes()]) else ""


def _repository(folder: str) -> Sequence[str]:
    return find_repository(folder, homes=[home_of_user(), *homes()]) if folder else ()


def project_folders() -> list[str]:
    """The working folder, and the folders around it up to the top of its repository."""
    here = working_folder()
    found = [here]
    top = next((each for each in _repository(_shared_folder()) if here.startswith(f"{each}/")), here)
    while found[-1] != top:
        found.append(os.path.dirname(found[-1]))
    return found


NOT_SHARED = (
    "{} is not shared, since it is or contains a home folder, or belongs to the system: start in a project's folder, or "
    "name one with --rw PATH"
)


def build_plan(
    arguments: argparse.Namespace,
    command: list[str],
    private: Path,
    gateway: str,
    *,
    protected: Protected,
    limits: Enforced,
    ports: OpenPorts,
    agent_home: AgentHome | None = None,
) -> SandboxPlan:
    """`private` is the run's own folder, `gateway` the path of its socket. Raises CannotRun."""
    home, here, files = home_of_user(), working_folder(), _files()
    request = _mount_request(
        arguments, command[0], private, gateway, home=home, protected=protected, agent_home=agent_home
    )
    shared = [*filter(None, [request.folder]), *request.read_only, *request.writable]
    is_shared = nearest(here, shared) > 0
    if not is_shared and request.view != "host":
        print_error(NOT_SHARED.format(here))
    root, empty = private / "root", private / "empty"
    root.mkdir()
    empty.touch(0o444)
    # A folder with a hidden file may be renamed: the mount moves with it. What is written there
    # fails, which a mask of /dev/null would not tell.
    steps = pinned(mounts(request), named=request.read_only)
    steps += [Mount("ro", path, str(empty)) for path in protected.hidden]
    variables = [f"{name}={value}" for name, value in agent_home.environ.items()] if agent_home else []
    if request.view == "private":
        changeable = [*filter(None, [request.folder]), *request.repository, *request.writable]
        made = _files_of_home(home, folder=here, writable=[here, *changeable])
        files |= {path: text for path, text in made.items() if access(path, steps) == "empty"}
    environ = _environment([*variables, *arguments.env], files=files, home=home)
    return SandboxPlan(
        command=command,
        environ=environ,
        folder=here if request.view != "private" or is_shared else home,
        gateway=os.path.realpath(gateway),
        root=str(root),
        mounts=steps,
        files=files,
        home=home,
        home_files=agent_home.files if agent_home is not None else [],
        netlink=arguments.netlink,
        is_root=request.is_root,
        terminal=_terminal(),
        ignored=_ignored_signals(),
        bwrap=_bwrap(steps) if arguments.bwrap else None,
        cgroup=limits.procs,
        rlimits=dict(limits.rlimits),
        affinity=list(limits.affinity),
        published=list(ports.published),
        allowed=list(ports.allowed),
    )


def _mount_request(
    arguments: argparse.Namespace,
    program: str,
    private: Path,
    gateway: str,
    *,
    home: str,
    protected: Protected,
    agent_home: AgentHome | None,
) -> MountRequest:
    """What the program is to see. Raises CannotRun."""
    own = [str(_PACKAGE), *of_program(sys.executable, home=home), sys.prefix, sys.base_prefix]
    folder = _shared_folder()
    read_only, writable = _named_paths(arguments, folder=folder)
    named = [*read_only, *writable]
    masked = _paths_to_mask(os.path.realpath(arguments.config or CONFIG), gateway, within=writable)
    repository = _repository(folder)
    changeable = [*filter(None, [folder]), *repository, *writable]
    installed = programs(program, environ=os.environ, home=home, folder=folder, writable=changeable)
    if (arguments.fs or "private") == "private":
        outside = [path for path in installed if not nearest(path, changeable)]
        masked += [path for path in secrets_of(outside) if path not in named]
    return MountRequest(
        view=arguments.fs or "private",
        folder=folder,
        home=home,
        read_only=read_only,
        writable=writable,
        own=[os.path.abspath(path) for path in own],
        protected=protected.read_only,
        kept=agent_home.mounts if agent_home is not None else (),
        programs=installed,
        repository=repository,
        masked=[*masked, *([str(private)] if nearest(str(private), named) else [])],
        is_root=os.geteuid() == 0,
    )


def _environment(named: Sequence[str], *, files: Mapping[str, str], home: str) -> dict[str, str]:
    """The program's environment; `named` are variables by name, or as NAME=VALUE."""
    environ = environment(
        os.environ,
        named=named,
        has_python=f"{PYTHON}/sitecustomize.py" in files,
        has_node=NODE in files,
    )
    environ["HOME"] = home
    # At the end: `python` exists where the system has only `python3`.
    environ["PATH"] = os.pathsep.join(
        [*filter(None, [environ.get("PATH")]), str(Path(os.path.abspath(sys.executable)).parent)]
    )
    return environ


def _files_of_home(home: str, *, folder: str, writable: Sequence[str]) -> dict[str, str]:
    """The user's settings of git and mise, without secrets."""
    files = mise_files(os.environ, home=home)
    if (git := program_outside("git", writable=writable)) is not None:
        files |= settings_files(git, home=home, folder=folder, environ=os.environ)
    return files


def home_of_user() -> str:
    named = os.environ.get("HOME", "")
    if not named.startswith("/"):
        with suppress(KeyError):
            named = pwd.getpwuid(os.geteuid()).pw_dir
    return os.path.realpath(named) if named.startswith("/") else "/"


def homes() -> list[str]:
    """The home folders of this user and of the one before sudo or su, whatever HOME is."""
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


def _named_paths(arguments: argparse.Namespace, *, folder: str) -> tuple[list[str], list[str]]:
    """The real paths of --ro and --rw. Raises CannotRun where one is named by both."""
    read_only = list(dict.fromkeys(_existing(path) for path in arguments.ro))
    writable = list(dict.fromkeys(_existing(path) for path in arguments.rw))
    for path in writable:
        if any(Path(path).samefile(other) for other in read_only):
            raise CannotRun(f"{path} is named by --ro and by --rw: choose one of them.")
    # --ro of one path of a folder that is mounted twice applies to the other path too.
    mounted = read_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))
    within = [*writable, *filter(None, [folder])]
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
        raise CannotRun("to mount the whole tree use --fs ro, or --fs host.")
    if any(f"{real}/".startswith(f"{own}/") for own in ("/proc", "/sys", "/dev")):
        raise CannotRun(f"{path} cannot be mounted: the sandbox has its own /proc, /sys and /dev.")
    if real == "/run" or nearest(real, [RUN]):
        raise CannotRun(
            f"{path} cannot be mounted: the sandbox has its own {RUN}. Name what you need below /run."
        )
    if not os.path.lexists(real):
        raise CannotRun(f"{path} cannot be mounted: it does not exist.")
    return real


def _paths_to_mask(config: str, gateway: str, *, within: Sequence[str]) -> list[str]:
    """The files that the program must not see or replace: the config, the lock file of tools, the
    gateway's sockets, its state, and its log with older ones. `within` are writable folders.
    """
    from modelplex.config.state_folder import make_state_folder, state_folder

    found = [config, os.path.join(os.path.dirname(config), LOCK), gateway]
    with suppress(RuntimeError, OSError):
        state = state_folder(None, environ=os.environ)
        if within and nearest(str(state), within):
            make_state_folder(state)  # otherwise the program could make it, with answers of its own
        found.append(str(state))
    for path in files_of_config(config):
        # Older logs (.1), journals of databases (-wal).
        found += [path, *glob.glob(f"{glob.escape(path)}[.-]*")]
    return list(dict.fromkeys(os.path.realpath(path) for path in found if os.path.lexists(path)))


def files_of_config(config: str) -> list[str]:
    """The files and sockets that the config's gateway makes. An invalid config is reported by the
    gateway.
    """
    import tomllib

    try:
        read = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []

    def strings(table: object, key: str) -> list[str]:
        found = cast("dict[str, object]", table).get(key) if isinstance(table, dict) else None
        return [found] if isinstance(found, str) else []

    server = read.get("server")
    found = strings(server, "state_folder")
    found += [path for path in strings(server, "keep_responses") if path != "memory"]
    found += strings(read.get("log"), "file")
    found += [path for path in strings(read.get("record"), "store") if "://" not in path]
    # The lock file alone is relative to the config.
    folder = os.path.dirname(config)
    found += [os.path.join(folder, path) for path in strings(read.get("mcp"), "lock_file")]
    agents = read.get("agents")
    tables = cast("list[object]", agents) if isinstance(agents, list) else []
    return found + [path for agent in tables for path in strings(agent, "socket")]


def _files() -> dict[str, str]:
    """Files by path that make `unix:` URLs work in Python and Node inside."""
    found: dict[str, str] = {}
    client, hook = _PACKAGE / "client.py", _PACKAGE / "client_hook.py"
    if client.is_file() and hook.is_file():
        found[f"{PYTHON}/sitecustomize.py"] = Path(__file__).with_name("sitecustomize.py").read_text()
        found[f"{PYTHON}/modelplex_client/__init__.py"] = hook.read_text()
        found[f"{PYTHON}/modelplex_client/client.py"] = client.read_text()
    client = _PACKAGE / "client.mjs"
    if client.is_file():
        found[NODE] = client.read_text()
    return found


def _ignored_signals() -> list[int]:
    """Signals that this process inherited as ignored (by nohup), and the program ignores too; not
    the two that Python ignores.
    """
    own = {signal.SIGPIPE, signal.SIGXFSZ}
    return [int(n) for n in signal.valid_signals() - own if signal.getsignal(n) is signal.SIG_IGN]


def _terminal() -> str | None:
    for number in (0, 1, 2):
        with suppress(OSError):
            return os.ttyname(number)
    return None


def _bwrap(steps: Sequence[Mount]) -> list[str]:
    """The command of bubblewrap that builds the same tree. Raises CannotRun."""
    program = shutil.which("bwrap")
    if program is None:
        raise CannotRun(
            "bubblewrap is not installed: install it (apt-get install bubblewrap), or leave out --bwrap."
        )
    # The supervisor is the first process: bubblewrap's own would have no seccomp filter, and the
    # program could reach it.
    command = [program, "--unshare-pid", "--as-pid-1", "--die-with-parent"]
    # The supervisor needs the first one to drop the others.
    command += ["--cap-drop", "ALL"]
    command += [
        word for name in ("CAP_SETPCAP", "CAP_SYS_PTRACE", "CAP_NET_ADMIN") for word in ("--cap-add", name)
    ]
    for kind, target, source in steps:
        match kind:
            case "ro":
                command += ["--ro-bind", source, target]
            case "rw":
                command += ["--bind", source, target]
            case "empty":
                mode = "1777" if target in {"/tmp", "/var/tmp"} else "0755"  # noqa: S108
                command += ["--perms", mode, "--tmpfs", target]
            case "link":
                command += ["--symlink", source, target]
            case "mask":
                if os.path.isdir(target):
                    command += ["--tmpfs", target, "--remount-ro", target]
                else:
                    command += ["--ro-bind", "/dev/null", target]
    command += ["--tmpfs", "/sys"]
    command += [word for path in SHOWN_OF_SYS for word in ("--ro-bind-try", path, path)]
    command += ["--remount-ro", "/sys"]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--chdir", "/"]  # noqa: S108
    if os.geteuid() == 0:
        command += ["--ro-bind", "/proc/sys", "/proc/sys"]
        for path in (f"/proc/{name}" for name in HIDDEN_OF_PROC):
            if os.path.isdir(path):
                command += ["--tmpfs", path, "--remount-ro", path]
            elif os.path.exists(path):
                command += ["--ro-bind", "/dev/null", path]
    return [*command, "--", *interpreter_command("inside")]
