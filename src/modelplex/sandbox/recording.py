"""What `modelplex run` records: describes the run to its gateway, and sums it up at the end.

Branch and repository are read from the files of git in the working folder, without starting git:
its configuration may name programs, and a program that ran here before may have written it.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from modelplex.sandbox.agent import Agent
from modelplex.sandbox.values import Budget

if TYPE_CHECKING:
    from modelplex.records.run_facts import SandboxFacts
    from modelplex.records.store.queries import RunSummary
    from modelplex.server.run_messages import RunEnded, RunRequest

MAX_GIT_FILE: Final = 65_536
"""Bytes that are read of a file of git."""
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}=.+", re.DOTALL)
_ORIGIN = re.compile(r'^\[remote "origin"\]\s*$(?:\n(?!\[).*)*?\n\s*url\s*=\s*(\S+)', re.MULTILINE)


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


class Recording:
    """Of one run. `environ` are the variables of a process that records calls of this run alone,
    and `gateway_environ` those of a gateway that it starts.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        command: Sequence[str],
        agent: Agent | None,
        config: str | None,
        *,
        now: float | None = None,
    ) -> None:
        import msgspec

        from modelplex.records.store_sink import RunInfo
        from modelplex.server.record_store import OFF, RUN_VARIABLE, SHARED
        from modelplex.server.run_messages import MAX_COMMAND

        self._config = config
        self._is_recorded = not (arguments.no_record or arguments.check or arguments.socket is not None)
        self._budget: Budget = arguments.budget or Budget()
        self._seed: int | None = arguments.seed
        repository, branch = map(_printable, git_facts(Path.cwd())) if self._is_recorded else ("", "")
        self.id = f"run-{os.urandom(4).hex()}"
        self._run = RunInfo(
            id=self.id,
            started=time.time() if now is None else now,
            agent=agent.name if agent is not None else "",
            command=_printable(shlex.join(command))[:MAX_COMMAND],
            folder=_printable(str(Path.cwd())),
            repository=repository,
            branch=branch,
            tags={**dict(_printable(tag).split("=", 1) for tag in arguments.tag), **_ports(arguments)},
        )
        described = msgspec.json.encode(self._run).decode() if self._is_recorded else OFF
        self.environ: Mapping[str, str] = {RUN_VARIABLE: described}
        self.gateway_environ: Mapping[str, str] = {RUN_VARIABLE: SHARED if self._is_recorded else OFF}

    def __repr__(self) -> str:
        return f"<Recording {self.id if self._is_recorded else 'off'}>"

    @property
    def name(self) -> str:
        """Of the run where it is recorded, else of this process."""
        return self.id if self._is_recorded else str(os.getpid())

    def request(self, path: str, agent: Agent | None, *, may_write_config: bool) -> RunRequest:
        """To serve the run's socket at `path`."""
        from modelplex.server.run_messages import RunRequest

        return RunRequest(
            path=path,
            run=self._run,
            is_recorded=self._is_recorded,
            agent=agent.name if agent is not None else "",
            usd=self._budget.usd,
            tokens=self._budget.tokens,
            seed=self._seed,
            may_write_config=may_write_config,
        )

    def print_summary(self, ended: RunEnded | None, *, is_attached: bool) -> None:
        """A line on stderr about a run with calls, and one about its budget. `ended` is what its
        gateway has said; one to which it is not attached records no run. The terminal may be gone.
        """
        lines = [self.summary() if is_attached else None, self._budget_line(ended)]
        for line in filter(None, lines):
            with suppress(OSError):
                os.write(sys.stderr.fileno(), f"modelplex run: {line}\n".encode("utf-8", "replace"))

    def _budget_line(self, ended: RunEnded | None) -> str | None:
        if ended is None or self._budget == Budget():
            return None
        from modelplex.commands.text import money

        spent = [money(ended.usd)] if self._budget.usd is not None else []
        spent += [f"{ended.tokens} tokens"] if self._budget.tokens is not None else []
        shared = f", which runs of {self._run.agent} share" if self._run.agent else ""
        return f"{' and '.join(spent)} spent of the budget of {self._budget}{shared}"

    def summary(self) -> str | None:
        """One line about the run, once its gateway has written its records. None where no call was
        recorded.
        """
        if not self._is_recorded:
            return None
        from modelplex.config import ConfigError, load
        from modelplex.config.detected import DEMO
        from modelplex.config.settings import Config
        from modelplex.records.store.database import StoreError
        from modelplex.records.store.queries import CallFilter, one_run, usage
        from modelplex.server.record_store import open_to_read, store_place

        try:
            config = (
                Config()
                if self._config is None
                else load(self._config, environ=os.environ, find_ollama=lambda: False)
            )
            database = open_to_read(store_place(config, os.environ))
        except (ConfigError, StoreError):
            return None
        demos = {each.name for each in config.providers if each.type == DEMO} or {DEMO}
        try:
            run = one_run(database, self.id)
            by_provider = usage(database, by=["provider"], where=CallFilter(run=self.id, kind="model"))
        except StoreError:
            return None
        finally:
            database.close()
        if run is None or not run.calls + run.tool_calls:
            return None
        providers = {row.group["provider"] for row in by_provider} - {""}
        return summary_line(run, database.place, is_demo=bool(providers) and providers <= demos)


def summary_line(run: RunSummary, place: str, *, is_demo: bool = False) -> str:
    """For example `3 calls, 1200 tokens in, 80 out, $0.0123; 1 refused; modelplex show run-1 (in
    FILE)`.
    """
    from modelplex.commands.text import count, money

    calls = count(run.calls, "call") + (f", {count(run.tool_calls, 'tool call')}" if run.tool_calls else "")
    cost = money(run.cost) + (f" and {run.unpriced} of unknown price" if run.unpriced else "")
    if is_demo and not run.cost and not run.unpriced:
        cost = "no cost, since only a demo answered"
    parts = [f"{calls}, {run.tokens_in} tokens in, {run.tokens_out} out, {cost}"]
    parts += [f"{run.failed} failed"] if run.failed else []
    parts += [f"{run.refused} refused"] if run.refused else []
    parts += [f"{count(run.stripped, 'value')} stripped"] if run.stripped else []
    return f"{'; '.join(parts)}; the record: modelplex show {run.id} (in {place})"


def sandbox_facts(measured: Mapping[str, Any], arguments: argparse.Namespace) -> SandboxFacts:
    """From measure_network of inside.py."""
    from modelplex.records.run_facts import SandboxFacts

    opened = {
        **_ports(arguments),
        **({"packages": ",".join(arguments.packages)} if arguments.packages else {}),
    }
    return SandboxFacts(
        interfaces=tuple(measured["interfaces"]),
        routes=measured["routes"],
        own_network=measured["namespace"] != Path("/proc/self/ns/net").stat().st_ino,
        openings=tuple(f"{name} {what}" for name, what in opened.items()),
    )


def _ports(arguments: argparse.Namespace) -> dict[str, str]:
    """The openings of the sandbox, as tags of the run."""
    named = {"publish": arguments.publish, "allow-port": arguments.allow_port}
    return {name: ",".join(map(str, ports)) for name, ports in named.items() if ports}


def _printable(text: str) -> str:
    """Arguments and paths may have any bytes."""
    return os.fsencode(text).decode("utf-8", "replace")


def git_facts(folder: Path) -> tuple[str, str]:
    """Repository and branch of the working tree that this folder is in; "" where there is none. The
    repository is the address of its remote `origin` without user and password, else the name of
    its folder.
    """
    for each in (folder, *folder.parents):
        if (each / ".git").exists():
            git = _git_folder(each)
            head = _text(git / "HEAD").strip()
            branch = head.removeprefix("ref: refs/heads/") if head.startswith("ref:") else head[:12]
            common = _text(git / "commondir").strip()
            found = _ORIGIN.search(_text((git / common if common else git) / "config"))
            repository = re.sub(r"^(\w+://)[^@/]*@", r"\1", found[1]) if found else each.name
            return repository, branch
    return "", ""


def _git_folder(tree: Path) -> Path:
    """A worktree or submodule has a file that names its folder."""
    name = _text(tree / ".git").removeprefix("gitdir:").strip() if (tree / ".git").is_file() else ""
    return tree / name if name else tree / ".git"


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_GIT_FILE).decode("utf-8", "replace")
    except OSError:
        return ""
