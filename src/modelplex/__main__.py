"""`python -m modelplex`: the command line."""

from modelplex.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
