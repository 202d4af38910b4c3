"""The options of `modelplex run`. Imports little, so that `modelplex --help` answers at once."""

from __future__ import annotations

import argparse
from typing import Any, Final

from modelplex.sandbox import values
from modelplex.sandbox.bridge import Once, add_command_line, file_name

CONFIG: Final = "config.toml"
PRESETS: Final = ("aider", "claude", "codex", "crush", "gemini", "goose", "opencode", "pi", "qwen")
"""Those of this package, for completions: a test compares them with the files."""
FILE_VIEWS: Final = ("private", "ro", "host")

EXAMPLES: Final = """\
examples:
  modelplex run claude                          Claude Code; others: codex, opencode, gemini, pi, aider, goose, qwen, crush
  modelplex run codex exec "Fix the test"       with the agent's own arguments
  modelplex run -- python agent.py              the working folder is writable, the home is empty, the gateway is the only network
  modelplex run --check                         test the sandbox from inside
  modelplex run --rw ~/.codex -- codex          share one more folder
  modelplex run --env GITHUB_TOKEN -- ./task    pass one more variable
  modelplex run --packages pypi -- uv sync      install what uv.lock names
  modelplex run --budget usd=5 -- ./task        refuse further calls once $5 are spent
  modelplex run --tag pr=12 -- ./task           tag the run in the record: modelplex usage --by tag
  modelplex run --publish 3000 -- npm run dev   open its port 3000 at http://127.0.0.1:3000
  modelplex run --memory 4G --time 1h -- ./task limit it

The exit status is the program's; 128 plus the signal's number where a signal ended it; 124 where --time ended it; 126 or 127 where it cannot be started; 1 where no sandbox is possible.
"""

_ONCE: Final[dict[str, Any]] = {"action": Once}
_FILE: Final[dict[str, Any]] = {"action": Once, "type": file_name}
_REPEATED: Final[dict[str, Any]] = {"action": "append", "default": []}
_SWITCH: Final[dict[str, Any]] = {"action": "store_true"}
_OPTIONS: Final[tuple[tuple[str, str, dict[str, Any], str], ...]] = (
    ("--socket", "PATH", _FILE, "use the gateway that listens on this socket, and start none"),
    (
        "--config",
        "FILE",
        _FILE,
        f"the config of the gateway to start (default: {CONFIG} where it exists, else what is detected)",
    ),
    (
        "--agent",
        "NAME",
        _ONCE,
        "run as this one of the config's [[agents]]: its models, tools, rate, budget and policy apply; a gateway that serves its socket already is used",
    ),
    (
        "--budget",
        "LIMIT",
        {**_ONCE, "type": values.budget},
        "refuse further calls once so much is spent: usd=5, tokens=100000 or both with a comma; with --agent, runs of the agent at the same time share it where they share a gateway",
    ),
    (
        "--seed",
        "N",
        {**_ONCE, "type": values.seed},
        "the seed of requests that have none, where the provider takes one; it is recorded with each call",
    ),
    (
        "--fs",
        "VIEW",
        {**_ONCE, "choices": FILE_VIEWS},
        "the files that it sees: private (the default: system read-only, home empty, working folder writable), ro (all read-only, working folder writable), or host (all, as it is); /tmp and /run are always private",
    ),
    (
        "--ro",
        "PATH",
        {**_REPEATED, "type": file_name},
        'mount this too, read-only; "--ro ." makes the working folder read-only; may be repeated',
    ),
    (
        "--rw",
        "PATH",
        {**_REPEATED, "type": file_name},
        "mount this too, writable; of --ro and --rw the one nearest to a file applies; may be repeated",
    ),
    (
        "--profile",
        "FILE",
        _FILE,
        "options from this TOML file; those of the command line come before them",
    ),
    ("--no-profile", "", _SWITCH, "ignore modelplex.toml, the options of the project in the working folder"),
    ("--accept-profile", "", _SWITCH, "accept what modelplex.toml opens, without a question"),
    (
        "--no-protect",
        "",
        _SWITCH,
        "do not protect the project's git hooks, git configuration and editor settings, which run programs on the host later; --rw PATH makes one of them writable",
    ),
    (
        "--show-env",
        "",
        _SWITCH,
        "show the project's .env files, which are hidden otherwise; --ro PATH shows one",
    ),
    ("--env", "NAME", _REPEATED, "pass this variable, or, as NAME=VALUE, set it; may be repeated"),
    (
        "--publish",
        "[HOST:]PORT",
        {**_REPEATED, "type": values.published_port},
        "open this port of the program at the host's 127.0.0.1, for a browser; may be repeated",
    ),
    (
        "--allow-port",
        "PORT",
        {**_REPEATED, "type": values.allowed_port},
        "let the program connect to this port of the host's 127.0.0.1, such as 5432; may be repeated",
    ),
    (
        "--memory",
        "SIZE",
        {**_ONCE, "type": values.size},
        "limit its memory, such as 2G; a line at the start says what enforces it",
    ),
    ("--cpus", "NUMBER", {**_ONCE, "type": values.cpus}, "limit it to so many CPUs, such as 2 or 0.5"),
    (
        "--pids",
        "NUMBER",
        {**_ONCE, "type": values.processes},
        "limit the number of its processes and threads",
    ),
    (
        "--time",
        "DURATION",
        {**_ONCE, "type": values.duration},
        "end it after so long, such as 30m, with the exit status 124",
    ),
    (
        "--netlink",
        "",
        _SWITCH,
        "allow routing netlink sockets that may write, as a bubblewrap sandbox inside needs; listing interfaces needs no option",
    ),
    (
        "--packages",
        "INDEXES",
        {**_ONCE, "type": values.package_indexes},
        "pypi, npm or both with a comma: install packages inside, from read-only mirrors of these indexes, and only what a lock file of the project or --allow-package names",
    ),
    (
        "--min-age",
        "AGE",
        {**_ONCE, "type": values.age},
        "only packages that were released at least this long ago, such as 7d (s, m, h, d or w)",
    ),
    (
        "--allow-package",
        "NAME",
        _REPEATED,
        "a package besides those of the lock files: pypi:NAME, pypi:NAME==VERSION, npm:NAME or npm:NAME@VERSION; may be repeated",
    ),
    ("--bwrap", "", _SWITCH, "build the file tree with bubblewrap"),
    (
        "--instructions",
        "",
        _SWITCH,
        "show a preset's agent your own instructions (CLAUDE.md, AGENTS.md, skills, prompts), read-only",
    ),
    ("--model", "NAME", _ONCE, "the model that a preset's agent requests, instead of its own default"),
    (
        "--tag",
        "NAME=VALUE",
        _REPEATED,
        "a tag of this run in the record, such as pr=12; may be repeated",
    ),
    (
        "--record",
        "FILE",
        _FILE,
        "write the run to this file too, as a recording for modelplex replay, which can be checked in",
    ),
    ("--no-record", "", _SWITCH, "do not record what the program sends and receives"),
    ("--check", "", _SWITCH, "run no program, and test from inside what is closed"),
    ("--no-reload", "", _SWITCH, "the started gateway does not reload its config when the file changes"),
    ("--verbose", "", _SWITCH, "log more, and to stderr, among the program's output"),
)


REPLAY_EXAMPLES: Final = """\
examples:
  modelplex run --record bug.jsonl codex exec "Fix the test"    record a run
  modelplex replay bug.jsonl codex exec "Fix the test"          the same again, without a provider, a key or a network
  modelplex replay run-5f0c2a1b -- python agent.py              a run of the record: modelplex runs lists them
  modelplex replay --on-miss live bug.jsonl -- ./task           requests that were not recorded go to the config's providers

Options stand before the recording; those of modelplex run hold here too.
"""
_REPLAY_OPTIONS: Final[tuple[tuple[str, str, dict[str, Any], str], ...]] = (
    (
        "--on-miss",
        "WHAT",
        {"choices": ("fail", "live", "demo"), "default": "fail"},
        "what becomes of a request that was not recorded: fail (the default: an error that names the first difference), live (the config's providers answer) or demo (the built-in demo answers)",
    ),
    ("--timing", "", _SWITCH, "answers take the time that they took"),
    ("--live-tools", "", _SWITCH, "calls of the host's tools are made, and not answered from the recording"),
)
NOT_OF_REPLAY: Final = ("--socket", "--check")
"""A replay has a gateway of its own, and a program."""


def add_arguments(parser: argparse.ArgumentParser, *, is_replay: bool = False) -> None:
    """Those of `modelplex run`, or of `modelplex replay`."""
    for flag, metavar, settings, text in (*(_REPLAY_OPTIONS if is_replay else ()), *_OPTIONS):
        if is_replay and flag in NOT_OF_REPLAY:
            continue
        named: dict[str, Any] = {"metavar": metavar} if metavar else {}
        parser.add_argument(flag, help=text, **settings, **named)
    parser.set_defaults(is_replay=is_replay)
    if is_replay:
        parser.set_defaults(check=False)
    add_command_line(parser, offered=() if is_replay else PRESETS)
