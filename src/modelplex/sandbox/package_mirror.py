"""`modelplex run --packages`: the mirror of a run, and what the sandbox needs of it."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import secrets
import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, cast

from modelplex.sandbox import kernel
from modelplex.sandbox.errors import CannotRun, WrongArguments
from modelplex.sandbox.folders import RUN, Mount
from modelplex.sandbox.inside import SandboxPlan
from modelplex.sandbox.plan import print_error, project_folders, working_folder
from modelplex.sandbox.run_gateway import config_path

if TYPE_CHECKING:
    from modelplex.config import Config
    from modelplex.packages.names import Ecosystem
    from modelplex.packages.plan import MirrorPlan
    from modelplex.packages.process import MirrorSpec, MirrorSummary

AUTHORITY: Final = f"{RUN}/packages.pem"
HOSTS: Final = "/etc/hosts"
MAX_SHOWN: Final = 10
"""Refused packages that the last line of a run names."""


class PackageOptions(NamedTuple):
    """`min_age` None: the config's."""

    ecosystems: frozenset[Ecosystem]
    min_age: float | None
    listed: list[str]


def package_options(arguments: argparse.Namespace) -> PackageOptions | None:
    """None without --packages. Raises WrongArguments."""
    if arguments.packages is None:
        if arguments.min_age is not None or arguments.allow_package:
            raise WrongArguments("--min-age and --allow-package need --packages: --packages pypi,npm")
        return None
    from modelplex.packages.allow_list import read_entry

    for entry in arguments.allow_package:
        try:
            read_entry(entry)
        except ValueError as error:
            raise WrongArguments(f"--allow-package: {error}") from None
    named = frozenset(cast("list[Ecosystem]", arguments.packages))
    return PackageOptions(named, arguments.min_age, arguments.allow_package)


def lock_files(options: PackageOptions | None) -> list[str]:
    """The lock files of the project that the next start would read, relative to the working
    folder.
    """
    if options is None:
        return []
    from modelplex.packages.project_locks import lock_names

    here = working_folder()
    return [
        os.path.relpath(f"{folder}/{name}", here)
        for folder in project_folders()
        for name in lock_names(Path(folder), options.ecosystems)
    ]


@contextmanager
def package_mirror(
    arguments: argparse.Namespace,
    options: PackageOptions | None,
    private: Path,
    log: IO[bytes],
    *,
    environ: Mapping[str, str],
) -> Generator[MirrorPlan | None]:
    """The mirror that `options` ask for, while it runs; reports at the end what it refused.
    `environ` are the variables that describe the run to its gateway. Raises CannotRun.
    """
    if options is None:
        yield None
        return
    from modelplex.packages.launch import start_mirror
    from modelplex.packages.plan import PackagesFault

    config = _config(arguments)
    folder = private / "packages"
    folder.mkdir(mode=0o700)
    try:
        plan = _plan(options, config, folder)
        spec = _recorded(plan.spec, config, environ, agent=arguments.agent or "")
        mirror = start_mirror(
            spec, log=log, environ=os.environ, prepare=lambda: kernel.die_with_parent(signal.SIGTERM)
        )
    except PackagesFault as fault:
        raise CannotRun(fault.sentence) from None
    try:
        yield plan
    finally:
        mirror.stop()
        if mirror.summary is not None:
            _print_summary(mirror.summary)


def _config(arguments: argparse.Namespace) -> Config:
    from modelplex.config import ConfigError, load
    from modelplex.config.settings import Config

    path = config_path(arguments)
    try:
        return Config() if path is None else load(path, environ=os.environ, find_ollama=lambda: False)
    except ConfigError as fault:
        raise CannotRun(f"the config is wrong: {fault.sentence}") from None


def _plan(options: PackageOptions, config: Config, folder: Path) -> MirrorPlan:
    from modelplex.packages.allow_list import read_entry
    from modelplex.packages.host_settings import read_host_settings
    from modelplex.packages.lock_files import BrokenLock
    from modelplex.packages.plan import MirrorRequest, PackagesFault, plan_mirror
    from modelplex.packages.project_locks import read_locks

    here = Path(working_folder())
    settings = config.packages
    try:
        locks = [
            lock
            for folder in project_folders()
            for lock in read_locks(Path(folder), options.ecosystems).values()
        ]
        listed = [read_entry(each) for each in (*settings.allow, *options.listed)]
    except BrokenLock as error:
        raise PackagesFault(f"{error}.") from None
    except ValueError as error:
        raise PackagesFault(f"[packages] allow: {error}.") from None
    sources = {"pypi": settings.pypi, "npm": settings.npm}
    request = MirrorRequest(
        ecosystems=options.ecosystems,
        host=read_host_settings(os.environ, home=Path.home(), without=here),
        sources={kind: url.reveal() for kind, url in sources.items() if url is not None},  # type: ignore[misc]
        locks=locks,
        listed=listed,
        min_age=settings.min_age if options.min_age is None else options.min_age,
        folder=str(folder),
        authority=AUTHORITY,
    )
    if not locks and not request.listed:
        print_error(
            "--packages: there is no lock file here (requirements.txt, uv.lock, poetry.lock, pylock.toml, package-lock.json, pnpm-lock.yaml), so that no package may be had"
        )
    return plan_mirror(request, now=dt.datetime.now(dt.UTC), number_below=secrets.randbelow)


def _recorded(spec: MirrorSpec, config: Config, environ: Mapping[str, str], *, agent: str) -> MirrorSpec:
    """With the record's file, where the run is recorded in one. A database's address has a
    password, which the mirror must not have.
    """
    import msgspec

    from modelplex.records.store.database import StoreError, is_postgresql
    from modelplex.records.store_sink import RetentionRules
    from modelplex.server.record_store import OFF, content_of, host_of, run_of, store_place

    try:
        place = store_place(config, os.environ)
    except StoreError:
        return spec
    if content_of(config, environ) == OFF or is_postgresql(place):
        return spec
    rules = RetentionRules(config.record.max_age, config.record.max_size)
    return msgspec.structs.replace(
        spec,
        store=os.path.abspath(place),  # noqa: PTH100
        rules=rules,
        run=run_of(environ),
        agent=agent,
        host=host_of(config),
    )


def with_mirror(plan: SandboxPlan, mirror: MirrorPlan | None, private: Path) -> SandboxPlan:
    """The sandbox with the mirror on its loopback. What --env names stays."""
    if mirror is None:
        return plan
    hosts = private / "hosts"
    hosts.write_text(_hosts(Path(HOSTS), mirror.names))
    hosts.chmod(0o644)
    return plan._replace(
        environ={**mirror.environ, **plan.environ},
        mounts=[*plan.mounts, Mount("ro", HOSTS, str(hosts))],
        files={**plan.files, AUTHORITY: mirror.authority},
        allowed=[*plan.allowed, *mirror.ports],
    )


def _hosts(file: Path, names: list[str]) -> str:
    """The host's file without these names, and a line with each of them."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        lines = ["127.0.0.1 localhost"]
    kept = [line for line in lines if not set(line.lower().split()) & set(names)]
    return "\n".join([*kept, *(f"127.0.0.1 {name}" for name in names), ""])


def _print_summary(summary: MirrorSummary) -> None:
    parts: list[str] = []
    if summary.failed:
        parts.append(f"{summary.failed} could not be fetched")
    if summary.withheld:
        parts.append(f"withheld: {_some(summary.withheld)}")
    if summary.refused:
        shown = _some(summary.refused)
        parts.append(
            f"refused, since neither a lock file nor the host names them: {shown} (--allow-package NAME)"
        )
    if parts:
        print_error("; ".join([f"packages: {summary.fetched} fetched", *parts]))


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_SHOWN]) + (", ..." if len(names) > MAX_SHOWN else "")
