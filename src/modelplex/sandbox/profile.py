"""Options of `modelplex run` from files: --profile FILE, which the user names and which holds like
options, and modelplex.toml in the working folder, which a project brings along.

A project's file may narrow. What it widens is shown to the user, who is asked once: the answer is
kept in the state folder under a hash of the file's path, its content, and what it comes to. Some
things only the user may widen.
"""

# Paths that may be links are text.
# ruff: noqa: PTH111, PTH112, PTH118, PTH120
from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tomllib
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from modelplex.sandbox import values
from modelplex.sandbox.arguments import FILE_VIEWS
from modelplex.sandbox.errors import CannotRun, WrongArguments

PROJECT_FILE: Final = "modelplex.toml"
ACCEPTED: Final = "accepted-profiles"
"""In the state folder: a line with a hash for each accepted file."""
MAX_BYTES: Final = 65_536
"""Of a profile. Each of its options is a line."""
MAX_ANSWER: Final = 1024
"""Bytes that are read of an answer: the longest line of a terminal is longer, and no "yes"."""

LISTS: Final[dict[str, Callable[[str], Any]]] = {
    "ro": str,
    "rw": str,
    "env": str,
    "publish": values.published_port,
    "allow_port": values.allowed_port,
    "packages": values.package_index,
    "allow_package": str,
}
LIMITS: Final[dict[str, Callable[[str], Any]]] = {
    "memory": values.size,
    "cpus": values.cpus,
    "pids": values.processes,
    "time": values.duration,
}
AGE: Final = "min_age"
OF_PACKAGES: Final = (AGE, "allow_package")
"""Options that hold only with `packages`."""
SWITCHES: Final = ("netlink", "protect", "show_env")
KEYS: Final = ("fs", *LISTS, *LIMITS, AGE, *SWITCHES)


class Profile(NamedTuple):
    """`options` have the types of the parsed arguments; `protect` is as it is written. Paths are
    real.
    """

    path: str
    content: bytes
    options: dict[str, Any]

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)


def apply_profiles(arguments: argparse.Namespace, *, report: Callable[[str], None]) -> None:
    """Add the options of both files. Raises CannotRun."""
    if arguments.profile is not None:
        _apply_named(arguments, read_profile(arguments.profile))
    if arguments.no_profile or not os.path.lexists(PROJECT_FILE):
        return
    profile = read_profile(PROJECT_FILE)
    if not profile.options:
        return
    if sentences := widenings(profile):
        _require_acceptance(profile, sentences, accepted_now=arguments.accept_profile)
    _apply_project(arguments, profile)
    report(f"options of {PROJECT_FILE}: {', '.join(profile.options)} (--no-profile)")


def read_profile(path: str) -> Profile:
    """Raises WrongArguments."""
    real = os.path.realpath(path)
    try:
        with Path(real).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise WrongArguments(f"{path} has more than {MAX_BYTES} bytes, and is no profile.")
        read = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as fault:
        raise WrongArguments(f"{path} cannot be read: {fault.strerror}.") from None
    except (ValueError, RecursionError) as fault:
        raise WrongArguments(f"{path} is not TOML: {fault}.") from None
    options: dict[str, Any] = {}
    for key, value in read.items():
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else f". Options: {', '.join(KEYS)}."
            raise WrongArguments(f'{path} has no option "{key}"{hint}')
        try:
            options[key] = _value(key, value, os.path.dirname(real))
        except (ValueError, argparse.ArgumentTypeError) as fault:
            raise WrongArguments(f"{path}, {key}: {fault}") from None
    return Profile(real, content, options)


def _value(key: str, value: object, folder: str) -> Any:
    """The parsed value. Raises ValueError and ArgumentTypeError."""
    if key in SWITCHES:
        if not isinstance(value, bool):
            raise ValueError("give true or false")
        return value
    if key in LISTS:
        if not isinstance(value, list):
            raise ValueError("give a list")
        parsed = [LISTS[key](_text(each)) for each in cast("list[object]", value)]
        if key in {"ro", "rw"}:
            return [os.path.realpath(os.path.join(folder, os.path.expanduser(path))) for path in parsed]
        return parsed
    if key == AGE:
        return values.age(_text(value))
    if key in LIMITS:
        return LIMITS[key](_text(value))
    if value not in FILE_VIEWS:
        raise ValueError(f"give {', '.join(FILE_VIEWS)}")
    return value


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise ValueError("give a text or a number")
    return str(value)


def _apply_named(arguments: argparse.Namespace, profile: Profile) -> None:
    """As if they stood before the options of the command line."""
    for key, value in _applicable(arguments, profile).items():
        if key in LISTS:
            _add(arguments, key, value)
        elif key == "protect":
            arguments.no_protect = arguments.no_protect or not value
        elif key in SWITCHES:
            setattr(arguments, key, getattr(arguments, key) or value)
        elif getattr(arguments, key) is None:
            setattr(arguments, key, value)


def _applicable(arguments: argparse.Namespace, profile: Profile) -> dict[str, Any]:
    has_packages = arguments.packages or profile.options.get("packages")
    return {key: value for key, value in profile.options.items() if has_packages or key not in OF_PACKAGES}


def _add(arguments: argparse.Namespace, key: str, value: list[Any]) -> None:
    setattr(arguments, key, [*value, *(getattr(arguments, key) or ())])


# --- the project's file


def _apply_project(arguments: argparse.Namespace, profile: Profile) -> None:
    """The lower limit holds, the higher age, and the user's own view of the files."""
    for key, value in _applicable(arguments, profile).items():
        if key == AGE:
            arguments.min_age = max(value, arguments.min_age or 0.0)
        elif key in LIMITS:
            own = getattr(arguments, key)
            setattr(arguments, key, value if own is None else min(own, value))
        elif key == "protect":
            arguments.no_protect = False
        elif key in LISTS:
            _add(arguments, key, value)
        elif key in SWITCHES:
            setattr(arguments, key, getattr(arguments, key) or value)
        elif arguments.fs is None:
            arguments.fs = value


def widenings(profile: Profile) -> list[str]:
    """What needs the user's word, as one phrase each. Raises CannotRun where only an option may
    widen it.
    """
    options, folder = profile.options, profile.folder

    def is_outside(path: str) -> bool:
        return not path.startswith(f"{folder}/") and path != folder

    if options.get("fs") == "host":
        raise _only_by_option("fs", "host")
    if options.get("protect") is False:
        raise _only_by_option("protect", "false")
    found: list[str] = ["read all files of this machine"] if options.get("fs") == "ro" else []
    for path in options.get("rw", ()):
        if is_outside(path):
            raise _only_by_option("rw", path)
        found.append(f"write to {path}")
    # A file may be one that is hidden otherwise.
    found += [f"read {path}" for path in options.get("ro", ()) if is_outside(path) or not os.path.isdir(path)]
    found += [f"get the variable {name}" for name in options.get("env", ()) if "=" not in name]
    found += [f"open its port {port.inside} at 127.0.0.1" for port in options.get("publish", ())]
    found += [f"connect to 127.0.0.1:{port}" for port in options.get("allow_port", ())]
    if options.get("packages"):
        found.append(f"install what its lock files name from {' and '.join(options['packages'])}")
    found += [f"install {name}" for name in options.get("allow_package", ())]
    found += ["list network interfaces"] if options.get("netlink") else []
    found += ["read .env files"] if options.get("show_env") else []
    return found


def _only_by_option(key: str, value: str) -> CannotRun:
    return CannotRun(
        f"{PROJECT_FILE} has {key} = {value}, which a project may not ask for: give the option yourself, or ignore the file with --no-profile."
    )


def _require_acceptance(profile: Profile, sentences: list[str], *, accepted_now: bool) -> None:
    """Raises CannotRun."""
    if accepted_now:
        return
    from modelplex.config.state_folder import make_state_folder, state_folder

    key = acceptance_key(profile, sentences)
    try:
        file = state_folder(None, environ=os.environ) / ACCEPTED
        accepted = file.read_text(encoding="ascii").split() if file.exists() else []
    except (OSError, ValueError, RuntimeError):
        file, accepted = None, []
    if key in accepted:
        return
    asked = "".join(f"\n  {sentence}" for sentence in sentences)
    if not (os.isatty(0) and os.isatty(2)):
        raise CannotRun(
            f"{profile.path} asks that the program may:{asked}\nNobody has accepted that: start it once in a terminal, which asks, or give --accept-profile; --no-profile ignores the file."
        )
    sys.stderr.write(
        f"modelplex run: {profile.path} asks that the program may:{asked}\nAccept, as long as the file stays the same? [y/N] "
    )
    sys.stderr.flush()
    # Not by sys.stdin, which would read the program's input ahead.
    if os.read(0, MAX_ANSWER).strip().lower() not in {b"y", b"yes"}:
        raise CannotRun("not accepted. --no-profile ignores the file.")
    if file is not None:
        make_state_folder(file.parent)
        number = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(number, f"{key}\n".encode())
        finally:
            os.close(number)


def acceptance_key(profile: Profile, sentences: list[str]) -> str:
    """`sentences` too: links in the project may lead elsewhere later."""
    digest = hashlib.sha256()
    for part in (os.fsencode(profile.path), profile.content, os.fsencode("\n".join(sentences))):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
