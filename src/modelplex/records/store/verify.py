"""Checks the chain of a run: docs/how-to/verify.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from modelplex.records.ed25519 import is_signed
from modelplex.records.store import parts, rows
from modelplex.records.store.chain import Seal, StoredRecord, first_link, next_link
from modelplex.records.store.database import Database


class Verdict(msgspec.Struct, frozen=True):
    """`faults` are sentences, one for each record that is not as it was written. `key` is the
    public key that signed; None without a chain.
    """

    records: int
    faults: list[str]
    key: bytes | None = None


def verify_run(database: Database, run: str) -> Verdict:
    """Raises StoreUnavailable."""
    sealed = database.query("SELECT number, head, closed, key, signature FROM seals WHERE run = ?", (run,))
    if not sealed:
        return Verdict(
            0, ["it has no signed chain: only runs of modelplex run with a gateway of their own do"]
        )
    count, head, closed, key, signature = sealed[0]
    seal = Seal(run, int(count), bytes(head), bool(closed))
    faults: list[str] = []
    if not is_signed(bytes(key), seal.message, bytes(signature)):
        faults.append("the seal is not signed by the key that it names")
    links = database.query("SELECT number, call, digest FROM chain WHERE run = ? ORDER BY number", (run,))
    faults += _faults_of_links(database, run, links, seal)
    if not seal.closed:
        faults.append("the run was not closed: what followed its last signature is not covered")
    return Verdict(seal.number, faults, bytes(key))


def _faults_of_links(database: Database, run: str, links: list[Any], seal: Seal) -> Iterator[str]:
    link, expected, named = first_link(run), 1, set[str]()
    for number, call, digest in links:
        for missing in range(expected, number):
            yield f"record {missing} was removed"
        expected = number + 1
        link = next_link(link, number, bytes(digest))
        named.add(call)
        found = stored_record(database, call)
        if found is None:
            yield f"record {number} ({call}) was removed"
        elif found.digest != bytes(digest):
            yield f"record {number} ({call}) was edited"
        elif fault := _fault_of_parts(database, found):
            yield f"record {number} ({call}) was edited: {fault}"
    for missing in range(expected, seal.number + 1):
        yield f"record {missing} was removed from the end"
    for number, call, _ in links:
        if number > seal.number:
            yield f"record {number} ({call}) was added"
    for (call,) in database.query("SELECT id FROM calls WHERE run = ? ORDER BY started, id", (run,)):
        if call not in named:
            yield f"the record {call} was added"
    if link != seal.head and expected == seal.number + 1:
        yield "the records are not those that were signed, or not in their order"


def stored_record(database: Database, call: str) -> StoredRecord | None:
    columns = ", ".join(rows.CALL_COLUMNS)
    found = database.query(f"SELECT {columns} FROM calls WHERE id = ?", (call,))  # noqa: S608 - our own names
    if not found:
        return None
    bodies = database.query("SELECT request, response, tokens FROM bodies WHERE call = ?", (call,))
    request, response, tokens = bodies[0] if bodies else (None, None, None)
    sent = database.query("SELECT body FROM sent WHERE call = ? ORDER BY attempt", (call,))
    return StoredRecord(
        found[0],
        None if request is None else bytes(request),
        None if response is None else bytes(response),
        [bytes(body) for (body,) in sent],
        None if tokens is None else bytes(tokens),
    )


def _fault_of_parts(database: Database, record: StoredRecord) -> str:
    """What is wrong with the pieces of the request bodies, which are named by their hashes."""
    for blob in (record.request, *record.sent):
        if blob is None:
            continue
        stored = parts.read_stored(blob)
        node, hashes = stored.node, [*stored.before, *stored.after]
        while node:
            found = database.query("SELECT parent, part FROM nodes WHERE hash = ?", (node,))
            if not found:
                return "a message is missing"
            parent, part = found[0]
            seed = record.row[rows.CALL_COLUMNS.index("agent")].encode() if parent is None else bytes(parent)
            if parts.hash_of(seed + bytes(part)) != node:
                return "a message was replaced"
            hashes.append(bytes(part))
            node = b"" if parent is None else bytes(parent)
        for hash_ in dict.fromkeys(hashes):
            content = database.query("SELECT encoding, content FROM parts WHERE hash = ?", (hash_,))
            if not content:
                return "a part is missing"
            if parts.hash_of(parts.decompress(content[0][0], bytes(content[0][1]))) != hash_:
                return "the text of a part"
    return ""
