"""The arguments of the commands that prepare a machine for Modelplex, and read no config. Imports
little, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from typing import Any, Final, cast

NAMES: Final = frozenset({"client", "completion", "import", "man"})
SHELLS: Final = ("bash", "zsh", "fish")
FOREIGN: Final = ("litellm",)
"""Programs whose config `modelplex import` reads."""

COMPLETION_EXAMPLES: Final = """\
examples:
  eval "$(modelplex completion bash)"                                       in ~/.bashrc
  eval "$(modelplex completion zsh)"                                        in ~/.zshrc, after compinit
  modelplex completion fish > ~/.config/fish/completions/modelplex.fish
"""
MAN_EXAMPLES: Final = """\
examples:
  modelplex man | man -l -
  modelplex man > /usr/local/share/man/man1/modelplex.1
"""
IMPORT_EXAMPLES: Final = """\
examples:
  modelplex import litellm config.yaml > config.toml      what could not be carried is named on stderr
"""
INIT_EXAMPLES: Final = """\
examples:
  modelplex init                                  ask what of the found is used, and write config.toml
  modelplex init --yes                            use all that is found
  modelplex init --provider anthropic --output team.toml

It looks for keys in the environment, an Ollama that answers, and installed agents. A key is written as a reference to its variable, and never itself.
"""
CLIENT_EXAMPLES: Final = """\
examples:
  modelplex client install                        the active virtual environment, else python3
  modelplex client install --python .venv/bin/python
  eval "$(modelplex client node)"                 Node programs of this shell
  modelplex client node --write ~/.profile        Node programs of every later login
"""


def add(commands: Any, *, formatter: type[argparse.HelpFormatter]) -> None:
    """Add the subcommands. `commands` is the result of `add_subparsers`."""

    def command(of: Any, name: str, help_: str, **more: Any) -> argparse.ArgumentParser:
        about = help_[0].upper() + help_[1:] + "."
        made = of.add_parser(
            name, help=help_, description=about, formatter_class=formatter, allow_abbrev=False, **more
        )
        return cast("argparse.ArgumentParser", made)

    foreign = command(
        commands, "import", "print a config made from that of another program", epilog=IMPORT_EXAMPLES
    )
    foreign.add_argument("program", metavar="PROGRAM", choices=FOREIGN, help=f"one of: {', '.join(FOREIGN)}")
    foreign.add_argument("file", metavar="FILE", help="its config")
    init = command(commands, "init", "write a config of what is found on this machine", epilog=INIT_EXAMPLES)
    init.add_argument("--yes", action="store_true", help="ask nothing, and use all that is found")
    init.add_argument(
        "--provider",
        metavar="TYPE",
        action="append",
        help="ask nothing, and use this type of provider, such as anthropic, found or not; may be repeated",
    )
    init.add_argument("--output", metavar="FILE", help="the file to write (default: config.toml)")
    init.add_argument("--force", action="store_true", help="replace the file where it exists")
    client = command(
        commands, "client", "make `unix:` base URLs work in programs as they are", epilog=CLIENT_EXAMPLES
    )
    parts = client.add_subparsers(dest="client", metavar="COMMAND", title="commands", required=True)
    for name, help_ in (
        ("install", "add `unix:` base URLs to a Python environment"),
        ("uninstall", "remove `unix:` base URLs from a Python environment"),
    ):
        one = command(parts, name, help_)
        one.add_argument(
            "--python",
            metavar="FILE",
            help="the interpreter of the environment (default: the active virtual environment's, else python3)",
        )
    node = command(parts, "node", "print the line that adds `unix:` base URLs to Node programs")
    node.add_argument("--write", metavar="FILE", help="append it to this file of a shell, unless it has it")
    completion = command(
        commands, "completion", "print the completions for a shell", epilog=COMPLETION_EXAMPLES
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of: {', '.join(SHELLS)}")
    command(commands, "man", "print the manual page", epilog=MAN_EXAMPLES)
