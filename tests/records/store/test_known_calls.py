"""What a new call extends, looked up in both databases."""

from __future__ import annotations

from modelplex.records.store.database import Database
from modelplex.records.store.known_calls import StoredCalls
from tests.records.store import stored
from tests.records.store.stored import record


def test_calls_are_found_by_their_conversation_and_by_their_response(db: Database) -> None:
    first, second = stored.conversation(2)
    stored.write(db, first, second, record(3, response_id="resp_3"))
    known = StoredCalls(db)
    ((one, node),) = db.query("SELECT id, node FROM calls WHERE id = ?", (first.id,))
    found = known.by_turns([b"none", bytes(node)])
    assert found is not None
    assert (found.id, found.run) == (one, "run-0001")
    assert known.by_turns([]) is None
    assert known.by_turns([b"none"]) is None
    found = known.by_response("resp_3")
    assert found is not None
    assert (found.id, found.at) == ("mpx-0003", stored.NOW + 3)
    assert known.by_response("resp_4") is None
