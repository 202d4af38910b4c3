"""`make prices`: writes src/modelplex/record/prices.json."""

from datetime import UTC, datetime

from modelplex.records.price_list import FILE
from tests.prices.convert import file

FILE.write_bytes(file(today=datetime.now(UTC).date().isoformat()))
