"""Runs the commands of `setup_options`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from modelplex import __version__
from modelplex.commands.parser_rows import rows_of


def run(arguments: argparse.Namespace, parser: Callable[[], argparse.ArgumentParser]) -> int:
    """Returns the exit status. `parser` builds the parser of the whole command line. An exception
    has a `sentence`.
    """
    if arguments.command == "client":
        from modelplex.commands import client_install

        return client_install.run(arguments)
    if arguments.command == "completion":
        from modelplex.commands.completion import completion

        sys.stdout.write(completion(rows_of(parser()), arguments.shell))
        return 0
    from modelplex.commands.manual import man_page

    sys.stdout.write(man_page(rows_of(parser()), version=__version__))
    return 0
