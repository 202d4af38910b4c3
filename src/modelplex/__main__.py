"""`python -m modelplex` is `modelplex`: this file hands over to the command line and knows nothing
else.
"""

from modelplex.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
