"""The options of `modelplex run`; apart from run.py, so that `modelplex --help` imports next to nothing."""

from __future__ import annotations

import argparse
from typing import Final

CONFIG: Final = "config.toml"
WAYS: Final = ("private", "ro", "host")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--socket", metavar="PATH", help="the socket of a gateway that runs already; none is started"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help=f"the settings of the gateway that is started (default: {CONFIG} where it exists, else what is found)",
    )
    parser.add_argument(
        "--fs",
        choices=WAYS,
        default="private",
        metavar="WAY",
        help="what it sees of the files: private (the system read-only, an empty home, the working folder writable), ro (everything read-only, "
        "the working folder writable), or host (everything, as it is); /tmp and /run are its own in each",
    )
    parser.add_argument(
        "--ro", metavar="PATH", action="append", default=[], help="show this too, read-only; may be repeated"
    )
    parser.add_argument(
        "--rw", metavar="PATH", action="append", default=[], help="show this too, writable; may be repeated"
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
        "--verbose",
        action="store_true",
        help="the gateway's log to stderr, and more of it, into the program's output",
    )
    parser.add_argument(
        "command_line", nargs=argparse.REMAINDER, metavar="-- COMMAND", help=argparse.SUPPRESS
    )
