"""The options of `modelplex run`; apart from run.py, so that `modelplex --help` imports next to
nothing.
"""

from __future__ import annotations

import argparse
from typing import Final

from modelplex.sandbox.bridge import Once, file_name

CONFIG: Final = "config.toml"
WAYS: Final = ("private", "ro", "host")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket",
        metavar="PATH",
        type=file_name,
        action=Once,
        help="the socket of a gateway that runs already; none is started",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=file_name,
        action=Once,
        help=f"the settings of the gateway that is started (default: {CONFIG} where it exists, else what is found)",
    )
    parser.add_argument(
        "--agent",
        metavar="NAME",
        action=Once,
        help="one of the config's [[agents]]: its models, tools, rate, budget and policy hold for the program; a gateway that serves its socket already is used",
    )
    parser.add_argument(
        "--fs",
        choices=WAYS,
        metavar="WAY",
        action=Once,
        help="what it sees of the files: private (the default: the system read-only, an empty home, the working folder writable), ro (everything read-only, "
        "the working folder writable), or host (everything, as it is); /tmp and /run are its own in each",
    )
    parser.add_argument(
        "--ro",
        metavar="PATH",
        type=file_name,
        action="append",
        default=[],
        help='show this too, read-only; "--ro ." makes the working folder read-only; may be repeated',
    )
    parser.add_argument(
        "--rw",
        metavar="PATH",
        type=file_name,
        action="append",
        default=[],
        help="show this too, writable; of --ro and --rw the one nearest to a file decides; may be repeated",
    )
    parser.add_argument(
        "--env",
        metavar="NAME",
        action="append",
        default=[],
        help="pass this variable on, or, as NAME=VALUE, set it; may be repeated",
    )
    parser.add_argument(
        "--netlink",
        action="store_true",
        help="allow netlink sockets for routes and interfaces: Node's os.networkInterfaces() asks for one",
    )
    parser.add_argument("--bwrap", action="store_true", help="have bubblewrap build the file tree")
    parser.add_argument(
        "--check",
        action="store_true",
        help="run nothing, and prove from inside what is closed and what is not",
    )
    parser.add_argument(
        "--no-reload",
        action="store_true",
        help="the gateway that is started keeps to the config as it is at the start",
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="the gateway's log to stderr, and more of it, into the program's output",
    )
    parser.add_argument(
        "command_line", nargs=argparse.REMAINDER, metavar="-- COMMAND", help=argparse.SUPPRESS
    )
