"""The arguments of the commands that read the record. Imports little, so that `--help` answers at
once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final, cast

NAMES: Final = frozenset(
    {"runs", "show", "usage", "tail", "export", "verify", "certify", "acts", "telemetry", "stop", "page"}
)
PAGE_EXAMPLES: Final = """\
examples:
  modelplex page                         of the gateway that runs
  modelplex page run-5f0c2a1b            of the gateway of this `modelplex run`
  modelplex page --at ./admin.socket
"""
NO_STORE: Final = frozenset({"stop", "page"})
"""Commands that reach running gateways."""
FORMATS: Final = ("jsonl", "otlp", "inspect")

USAGE_EXAMPLES: Final = """\
examples:
  modelplex usage --since 7d --by agent,model     the last week, by agent and model
  modelplex usage --by day --csv                  a line for each day, for a spreadsheet
  modelplex usage --by tag.pr --json              by the values of one tag
  modelplex usage --by host                       by the hosts of all gateways that write the store

--by takes agent, model, provider, day, run, kind, outcome, tool, server, host, tag (each NAME=VALUE), and tag.NAME.
"""
SHOW_EXAMPLES: Final = """\
examples:
  modelplex show run-5f0c2a1b            the transcript of a run
  modelplex show mpx-5f0c2a1b-000001     one call: attempts, what was stripped, messages, response
  modelplex show mpx-5f0c2a1b-000001 --raw > body.json
  modelplex show mpx-5f0c2a1b-000001 --raw --attempt 1     what the first provider got
"""
CERTIFY_EXAMPLES: Final = """\
examples:
  modelplex certify run-5f0c2a1b          network, policy, models, tools, bytes that left, chain of the records
  modelplex certify run-5f0c2a1b --json

The exit status is 1 where something did not hold or was not measured; the line names it.
"""
EXPORT_EXAMPLES: Final = """\
examples:
  modelplex export run-5f0c2a1b --format jsonl > run.jsonl      a line for each call, with its bodies
  modelplex export run-5f0c2a1b --format otlp > run.json        spans of OpenTelemetry's GenAI conventions, as OTLP/JSON
  modelplex export run-5f0c2a1b --format inspect > run.json     a log that inspect_ai reads
"""


TELEMETRY_EXAMPLES: Final = """\
examples:
  modelplex telemetry --agent coder --since 1h       a line of OTLP/JSON for each request that the agent sent
  modelplex telemetry --run run-5f0c2a1b --signal logs
"""

Command = Callable[..., argparse.ArgumentParser]
"""Adds a command by its name and help."""


def add(
    commands: Any,
    *,
    shared: Callable[[str], argparse.ArgumentParser],
    formatter: type[argparse.HelpFormatter] = argparse.RawDescriptionHelpFormatter,
) -> None:
    """Add the subcommands. `commands` is the result of `add_subparsers`; `shared` makes the common
    options of a command.
    """

    def command(name: str, help_: str, **more: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            formatter_class=formatter,
            parents=[shared(name)],
            allow_abbrev=False,
            **more,
        )
        if name not in NO_STORE:
            made.add_argument(
                "--store", metavar="PLACE", help="read this file or address instead of the config's"
            )
        return cast("argparse.ArgumentParser", made)

    _add_lists(command)
    _add_of_one_run(command)
    _add_lasting(command)
    _add_of_gateways(command)


def _add_lists(command: Command) -> None:
    """Runs and calls."""
    runs = command("runs", "list the recorded runs, the newest first")
    runs.add_argument("--since", metavar="TIME", help="such as 7d, 12h or 2026-12-01")
    runs.add_argument("--agent", metavar="NAME", help="of this agent only")
    runs.add_argument("--host", metavar="NAME", help="with calls that were recorded on this host")
    runs.add_argument("--limit", metavar="N", type=int, default=30, help="at most so many (default: 30)")
    runs.add_argument("--json", action="store_true", help="as JSON")
    show = command("show", "show a run or one call as a transcript", epilog=SHOW_EXAMPLES)
    show.add_argument("id", metavar="RUN|REQUEST", help="the id of a run or of a call")
    show.add_argument("--raw", action="store_true", help="the bytes of the request as they were sent")
    show.add_argument("--response", action="store_true", help="with --raw: the bytes of the response")
    show.add_argument(
        "--attempt",
        metavar="N",
        type=int,
        help="with --raw: the bytes that went to the provider of attempt N",
    )
    show.add_argument("--json", action="store_true", help="as JSON, without bodies")
    usage = command("usage", "add up calls, tokens and cost", epilog=USAGE_EXAMPLES)
    usage.add_argument(
        "--since", metavar="TIME", help="such as 7d, 12h or 2026-12-01 (default: all that is stored)"
    )
    usage.add_argument(
        "--by", metavar="NAMES", default="agent,model", help="what to group by (default: agent,model)"
    )
    shape = usage.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="as JSON")
    shape.add_argument("--csv", action="store_true", help="as CSV")
    tail = command("tail", "print calls as they end")
    tail.add_argument(
        "--lines", metavar="N", type=int, default=10, help="earlier calls to begin with (default: 10)"
    )
    tail.add_argument("--agent", metavar="NAME", help="of this agent only")
    tail.add_argument("--json", action="store_true", help="a JSON object for each call")


def _add_of_one_run(command: Command) -> None:
    """What a run leaves."""
    export = command("export", "write a run in a format that other programs read", epilog=EXPORT_EXAMPLES)
    export.add_argument("run", metavar="RUN", help="the id of the run")
    export.add_argument(
        "--format",
        metavar="FORMAT",
        choices=FORMATS,
        default="jsonl",
        help=f"{', '.join(FORMATS)} (default: jsonl)",
    )
    verify = command("verify", "check that the record of a run is whole")
    verify.add_argument("run", metavar="RUN", help="the id of the run")
    certify = command("certify", "print what held of a run", epilog=CERTIFY_EXAMPLES)
    certify.add_argument("run", metavar="RUN", help="the id of the run")
    certify.add_argument("--json", action="store_true", help="as JSON")


def _add_lasting(command: Command) -> None:
    """What is no call."""
    acts = command("acts", "list what admins changed or were refused, the newest first")
    acts.add_argument("--since", metavar="TIME", help="such as 7d, 12h or 2026-12-01")
    acts.add_argument("--run", metavar="RUN", help="in this run only")
    acts.add_argument("--limit", metavar="N", type=int, default=30, help="at most so many (default: 30)")
    acts.add_argument("--json", action="store_true", help="as JSON")
    telemetry = command("telemetry", "print the telemetry of agents that was kept", epilog=TELEMETRY_EXAMPLES)
    telemetry.add_argument("--agent", metavar="NAME", help="of this agent only")
    telemetry.add_argument("--run", metavar="RUN", help="of this run only")
    telemetry.add_argument(
        "--signal",
        metavar="SIGNAL",
        choices=("traces", "metrics", "logs"),
        help="traces, metrics or logs (default: all)",
    )
    telemetry.add_argument("--since", metavar="TIME", help="such as 7d, 12h or 2026-12-01")


def _add_of_gateways(command: Command) -> None:
    """For gateways that run."""
    stop = command("stop", "end calls in flight")
    stop.add_argument(
        "what",
        metavar="AGENT|REQUEST|RUN",
        help="the id of a call or of a run of `modelplex run`, or the name of an agent",
    )
    stop.add_argument(
        "--at", metavar="ADDRESS", help="a gateway's host:port or admin socket, instead of the config's"
    )
    page = command("page", "show the page of a gateway that has no HTTP listener", epilog=PAGE_EXAMPLES)
    page.add_argument(
        "run", metavar="RUN", nargs="?", help="the run whose gateway it is (default: the only one there is)"
    )
    page.add_argument("--at", metavar="PATH", help="the gateway's admin socket")
    page.add_argument("--port", metavar="N", type=int, default=0, help="serve it here (default: a free port)")
