"""`make prices`: writes src/modelplex/record/prices.json."""

from datetime import UTC, datetime

from modelplex.record.pricelist import FILE
from tests.prices.convert import file

FILE.write_bytes(file(today=datetime.now(UTC).date().isoformat()))
