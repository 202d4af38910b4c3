"""The client side of a dialect, which the tests of all dialects need."""

from modelplex.dialects.dialect import ClientDialect
from modelplex.dialects.registry import DIALECTS


def client_dialect(dialect: str) -> ClientDialect:
    """How a client of this dialect converses."""
    found = DIALECTS[dialect].client
    assert found is not None, dialect
    return found
