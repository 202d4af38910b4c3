"""The arguments of `modelplex mcp`. Separate from `commands`, so that `--help` and `--version` load
little.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

EXAMPLES: Final = """\
examples:
  modelplex mcp list                              every server with its tools
  modelplex mcp call git__git_status '{"repo_path": "."}'
  modelplex mcp lock                              approve what there is now, and nothing that comes later
  modelplex mcp approve                           what waits for approval, and why
  modelplex mcp approve git__git_log 'fs__*'      approve these
  modelplex mcp login linear                      sign in to a remote server that requires OAuth
  modelplex mcp status                            who is signed in, until when
  modelplex mcp import ~/.claude.json             print what another program has, as [[mcp.servers]]
  modelplex mcp import .vscode/mcp.json --write   append it to the config

The exit status is 0 where all is well, 1 where a server or a tool failed or something waits for approval, 2 where the arguments or the config are wrong.
"""

Command = Callable[..., argparse.ArgumentParser]
"""Adds a command by its name and help."""


def add(
    commands: Any,
    *,
    shared: Callable[[], argparse.ArgumentParser],
    formatter: type[argparse.HelpFormatter] = argparse.RawDescriptionHelpFormatter,
) -> None:
    """Add the subcommand. `commands` is the result of `add_subparsers`; `shared` makes the common
    options.
    """

    def command(of: Any, name: str, help_: str, **more: Any) -> argparse.ArgumentParser:
        about = help_[0].upper() + help_[1:] + "."
        made = of.add_parser(
            name,
            help=help_,
            description=about,
            formatter_class=formatter,
            parents=[shared()],
            allow_abbrev=False,
            **more,
        )
        return cast("argparse.ArgumentParser", made)

    whole = command(
        commands, "mcp", "list, call and approve the tools of the config's tool servers", epilog=EXAMPLES
    )
    parts = whole.add_subparsers(dest="mcp", metavar="COMMAND", title="commands", required=True)
    subcommand = partial(command, parts)
    _add_tools(subcommand)
    _add_approvals(subcommand)
    _add_sign_ins(subcommand)
    importing = subcommand("import", "print the tool servers of another program as tables of the config")
    importing.add_argument(
        "file", metavar="FILE", help="of Claude, Cursor or VS Code (JSON), or of Codex (TOML)"
    )
    importing.add_argument("--write", action="store_true", help="append them to the config instead")


def _add_tools(command: Command) -> None:
    """What the tool servers offer."""
    listing = command("list", "start every tool server and say what it offers")
    listing.add_argument("--json", action="store_true", help="as JSON")
    calling = command("call", "call one tool and print its result")
    calling.add_argument("tool", metavar="TOOL", help="its name, as `modelplex mcp list` gives it")
    calling.add_argument(
        "arguments",
        metavar="JSON",
        nargs="?",
        default="{}",
        help='its arguments, an object; "-" reads them from stdin',
    )
    calling.add_argument("--json", action="store_true", help="print the whole result as JSON")


def _add_approvals(command: Command) -> None:
    """Which definitions are served."""
    command("lock", "write the lock file: approve every definition as it is now, but for suspicious ones")
    approving = command("approve", "approve definitions by name, or say what waits for approval")
    approving.add_argument(
        "tools", metavar="TOOL", nargs="*", help="names or globs; a server's own name means its instructions"
    )
    approving.add_argument("--all", action="store_true", help="approve all that waits")


def _add_sign_ins(command: Command) -> None:
    """Tool servers that require OAuth."""
    signing_in = command("login", "sign in to a tool server that requires OAuth, with a browser")
    signing_in.add_argument("server", metavar="NAME", help="the server's name in the config")
    signing_in.add_argument(
        "--agent", metavar="AGENT", default="", help="the sign-in of one agent (per_agent)"
    )
    signing_in.add_argument(
        "--device", action="store_true", help="show a code to enter in a browser elsewhere"
    )
    signing_in.add_argument("--no-browser", action="store_true", help="only print the address to open")
    signing_in.add_argument("--scope", metavar="SCOPE", default="", help="permissions to ask for besides")
    signing_out = command("logout", "revoke the tokens of a tool server, and forget them")
    signing_out.add_argument("server", metavar="NAME", help="the server's name in the config")
    signing_out.add_argument(
        "--agent", metavar="AGENT", default="", help="the sign-in of one agent (per_agent)"
    )
    state = command("status", "say to which tool servers this host is signed in, and until when")
    state.add_argument("server", metavar="NAME", nargs="?", default="", help="of this server alone")
    state.add_argument("--json", action="store_true", help="as JSON")
