"""The package agrees with its own description."""

import tomllib
from pathlib import Path

import modelplex

ROOT = Path(__file__).resolve().parent.parent


def test_the_version_is_the_one_that_is_released() -> None:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert modelplex.__version__ == described["version"]


def test_the_file_for_node_is_in_the_package() -> None:
    assert (Path(modelplex.__path__[0]) / "client.mjs").is_file()
