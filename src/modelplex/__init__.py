"""Modelplex: a gateway between AI agents and model providers. Imports nothing of ours."""

# A literal, since importlib.metadata costs `modelplex --version` some 30 ms. tests/test_package.py
# compares it with pyproject.toml.
__version__ = "0.2.0"
