"""The tables of the store, and how a database is brought from one version to the next. Pure.

One text serves both databases: {blob}, {int} and {real} stand for the names of their types, {keyed}
for a table that is stored in the order of its key. Of PUT_OFF SQLite has a file of its own.
Times are Unix seconds, durations seconds, costs US dollars. A hash is 20 bytes of SHA-256.

calls   one row per call; `kind` is "model", "tool", "session", "facts" or "act" (rows.py). `parent`
        is the call whose conversation it extends, `relation` how. `host` is that of the gateway
        that recorded it, "" before version 7. `detail` is JSON: attempts,
        changes, stripped values, all of the usage. `node` is the hash of the conversation up to its
        last message, `context` that of its system prompt; NULL where there is none. `response_id`
        is the id by which a request may go on from the response
bodies  the request and the response of a call, as parts.py writes them; `tokens` are those of the
        response, JSON packed alike
sent    the request that went to a provider, by the number of the attempt from 0, where it differs
parts   pieces of request bodies by their hash
nodes   conversations as a tree: a message after `parent`, with the part that holds it
chain   the records of a run of `modelplex run` in their order, with the digest of each: chain.py
seals   the end of each chain, signed
runs    groups of calls: by `modelplex run` (kind "run"), or by agent and conversation
put_off Records of which rows are made later, as packed.py writes them: batches of one gateway
        (`writer`), in their order
asked   batches that somebody waits for, to read them
`seen`  when a part or node was last used, exact to an hour
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PUT_OFF: Final = """
CREATE TABLE IF NOT EXISTS {file}put_off (
    writer TEXT NOT NULL, number {int} NOT NULL, at {real} NOT NULL, calls {int} NOT NULL,
    records {blob} NOT NULL, PRIMARY KEY (writer, number)
)
"""
"""{file} is the name of a database that SQLite attaches, with a dot."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        CREATE TABLE calls (
            id TEXT PRIMARY KEY, started {real} NOT NULL, day TEXT NOT NULL, kind TEXT NOT NULL,
            run TEXT NOT NULL, parent TEXT, relation TEXT NOT NULL,
            agent TEXT NOT NULL, listener TEXT NOT NULL, client TEXT NOT NULL, pid {int} NOT NULL, reach TEXT NOT NULL,
            dialect TEXT NOT NULL, endpoint TEXT NOT NULL, requested_model TEXT NOT NULL, model TEXT NOT NULL,
            provider TEXT NOT NULL, server TEXT NOT NULL, tool TEXT NOT NULL,
            stream {int} NOT NULL, status {int} NOT NULL, outcome TEXT NOT NULL, blame TEXT, code TEXT, error TEXT,
            finish_reason TEXT, tokens_in {int}, cache_read {int}, cache_write {int}, tokens_out {int}, reasoning {int},
            cost {real}, seconds {real} NOT NULL, first_output {real}, overhead {real} NOT NULL,
            attempts {int} NOT NULL, changes {int} NOT NULL, stripped {int} NOT NULL,
            bytes_in {int} NOT NULL, bytes_out {int} NOT NULL, messages {int} NOT NULL,
            node {blob}, context {blob}, detail TEXT NOT NULL
        )
        """,
        "CREATE INDEX calls_by_time ON calls (started)",
        "CREATE INDEX calls_by_run ON calls (run, started)",
        "CREATE INDEX calls_by_node ON calls (node)",
        "CREATE TABLE bodies (call TEXT PRIMARY KEY, request {blob}, response {blob})",
        """
        CREATE TABLE parts (
            hash {blob} PRIMARY KEY, seen {real} NOT NULL, bytes {int} NOT NULL, encoding {int} NOT NULL,
            content {blob} NOT NULL
        )
        """,
        "CREATE INDEX parts_by_time ON parts (seen)",
        "CREATE TABLE nodes (hash {blob} PRIMARY KEY, seen {real} NOT NULL, parent {blob}, part {blob} NOT NULL){keyed}",
        "CREATE INDEX nodes_by_time ON nodes (seen)",
        """
        CREATE TABLE runs (
            id TEXT PRIMARY KEY, started {real} NOT NULL, ended {real}, kind TEXT NOT NULL, agent TEXT NOT NULL,
            command TEXT NOT NULL, folder TEXT NOT NULL, repository TEXT NOT NULL, branch TEXT NOT NULL
        )
        """,
        "CREATE INDEX runs_by_time ON runs (started)",
        "CREATE TABLE run_tags (run TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, name)){keyed}",
    ),
    (
        "ALTER TABLE calls ADD COLUMN response_id TEXT",
        "CREATE INDEX calls_by_response ON calls (response_id) WHERE response_id IS NOT NULL",
        "CREATE TABLE sent (call TEXT NOT NULL, attempt {int} NOT NULL, body {blob} NOT NULL, PRIMARY KEY (call, attempt))",
    ),
    (
        "CREATE TABLE chain (run TEXT NOT NULL, number {int} NOT NULL, call TEXT NOT NULL, digest {blob} NOT NULL, PRIMARY KEY (run, number))",
        """
        CREATE TABLE seals (
            run TEXT PRIMARY KEY, number {int} NOT NULL, head {blob} NOT NULL, closed {int} NOT NULL,
            key {blob} NOT NULL, signature {blob} NOT NULL
        )
        """,
    ),
    ("CREATE TABLE asked (writer TEXT NOT NULL, number {int} NOT NULL, PRIMARY KEY (writer, number))",),
    ("ALTER TABLE bodies ADD COLUMN tokens {blob}",),
    ("CREATE INDEX calls_of_admins ON calls (started) WHERE kind = 'act'",),
    ("ALTER TABLE calls ADD COLUMN host TEXT NOT NULL DEFAULT ''",),
)
"""The statements of each version, oldest first. A released one is never changed; another follows.
"""

VERSION: Final = len(MIGRATIONS)
SQLITE: Final[Mapping[str, str]] = {
    "blob": "BLOB",
    "int": "INTEGER",
    "real": "REAL",
    "keyed": " WITHOUT ROWID",
}
POSTGRESQL: Final[Mapping[str, str]] = {
    "blob": "BYTEA",
    "int": "BIGINT",
    "real": "DOUBLE PRECISION",
    "keyed": "",
}


def statements_after(version: int, types: Mapping[str, str]) -> list[str]:
    """What brings a database of this version to the newest."""
    return [sql.format_map(types) for migration in MIGRATIONS[version:] for sql in migration]
