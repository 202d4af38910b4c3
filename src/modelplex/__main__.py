"""The program: `modelplex`, or `python -m modelplex`."""

from __future__ import annotations

import sys

from modelplex import __version__


def main() -> int:
    """Returns the exit status. `--version` alone is answered without the command line's modules,
    which take most of the time of its start.
    """
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"modelplex {__version__}\n")
        return 0
    from modelplex.cli import main as run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
