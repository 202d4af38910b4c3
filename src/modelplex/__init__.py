"""Modelplex: one gateway on the host through which agents reach any model provider.

This file stands above nothing and below everything: it may be imported by any room, so it imports
none.
"""

# Written out, and not read through importlib.metadata, which costs `modelplex --version` some 30
# ms. tests/test_package.py holds it to pyproject.toml.
__version__ = "0.2.0"
