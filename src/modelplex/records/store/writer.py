"""Writes batches of Records into a database: rows, parts and nodes, in one transaction.

Runs on the sink's thread, and there is everything that costs time: hashing, splitting, compressing.
A batch that is written twice leaves the same rows: every row has a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from modelplex.records.admin_act import AdminAct
from modelplex.records.record import AS_RECEIVED, Record
from modelplex.records.record_queue import Stored
from modelplex.records.request_headers import ShownHeaders
from modelplex.records.run_facts import RunFacts
from modelplex.records.store import chain, parts, rows
from modelplex.records.store.conversations import Call, Conversations, Recent
from modelplex.records.store.database import Database, Row, RowRefused, Statement
from modelplex.records.store.known_bodies import KnownBodies
from modelplex.records.store.known_calls import StoredCalls
from modelplex.records.store.packed import Turns
from modelplex.records.store.rows import Bodies, Placement, SentBody
from modelplex.records.store_sink import RunInfo, StoreOptions
from modelplex.records.tool_call import ToolRecord

_encode = msgspec.json.Encoder().encode

FRESH_S: Final = 3600.0
"""How exact `seen` is: a part that is used all the time is updated once an hour."""
KNOWN_PARTS: Final = 20_000
"""Hashes in memory, some 3 MB. What was forgotten is looked up or written again."""
KNOWN_HEADERS: Final = 500
"""Headers of requests in memory, some 0.5 MB at most: those of one program are alike."""
MAX_LOOKUP: Final = 500
"""Hashes in one query."""
FEW: Final = 4
"""Unknown parts that are written without a query whether they exist: a turn adds two."""

_INSERT_BODY = (
    "INSERT INTO bodies (call, request, response, tokens) VALUES (?, ?, ?, ?) ON CONFLICT (call) DO NOTHING"
)
_INSERT_SENT = (
    "INSERT INTO sent (call, attempt, body) VALUES (?, ?, ?) ON CONFLICT (call, attempt) DO NOTHING"
)
_INSERT_PART = (
    "INSERT INTO parts (hash, seen, bytes, encoding, content) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (hash) DO UPDATE SET seen = excluded.seen"
)
_SEE_PART = "UPDATE parts SET seen = ? WHERE hash = ?"
_INSERT_NODE = (
    "INSERT INTO nodes (hash, seen, parent, part) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (hash) DO UPDATE SET seen = excluded.seen"
)
_INSERT_RUN = (
    "INSERT INTO runs (id, started, kind, agent, command, folder, repository, branch) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
_INSERT_TAG = "INSERT INTO run_tags (run, name, value) VALUES (?, ?, ?) ON CONFLICT (run, name) DO NOTHING"
_END_RUN = "UPDATE runs SET ended = ? WHERE id = ?"


class _Batch(msgspec.Struct):
    """Rows that wait for one transaction, by statement, in the order of `_STATEMENTS`."""

    rows: dict[str, list[Row]] = {}

    def add(self, sql: str, row: Row) -> None:
        self.rows.setdefault(sql, []).append(row)

    def statements(self) -> list[Statement]:
        return [(sql, self.rows[sql]) for sql in _STATEMENTS if sql in self.rows]


_INSERT_LINK = (
    "INSERT INTO chain (run, number, call, digest) VALUES (?, ?, ?, ?) ON CONFLICT (run, number) DO NOTHING"
)
_INSERT_SEAL = (
    "INSERT INTO seals (run, number, head, closed, key, signature) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (run) DO UPDATE SET number = excluded.number, head = excluded.head, "
    "closed = excluded.closed, key = excluded.key, signature = excluded.signature"
)

_STATEMENTS: Final = (
    *(
        _INSERT_RUN,
        _INSERT_TAG,
        _INSERT_PART,
        _SEE_PART,
        _INSERT_NODE,
        _INSERT_BODY,
        _INSERT_SENT,
        rows.INSERT_CALL,
        _INSERT_LINK,
        _INSERT_SEAL,
    ),
)


class RecordWriter:
    """Of one database, on one thread. `options` may be replaced between two batches."""

    def __init__(self, database: Database, options: StoreOptions) -> None:
        self.options = options
        self.refused = 0
        """Records that the database refused for good."""
        self._database = database
        self._now = 0.0
        run = options.run
        self._conversations = Conversations(StoredCalls(database), run=run.id if run is not None else None)
        self._bodies = KnownBodies()
        self._parts: Recent[bytes, float] = Recent(KNOWN_PARTS)
        self._nodes: Recent[bytes, float] = Recent(KNOWN_PARTS)
        self._runs: Recent[str, float] = Recent()
        self._seal = (
            chain.Seal(run.id, 0, chain.first_link(run.id), closed=False) if run is not None else None
        )
        self._headers: Recent[ShownHeaders, tuple[str, float]] = Recent(KNOWN_HEADERS)

    def __repr__(self) -> str:
        return f"<RecordWriter {self._database.place}>"

    def end_run(self, at: float) -> None:
        if self.options.run is None:
            return
        batch = _Batch()
        if self._seal is not None and self._seal.number and self.options.sign is not None:
            batch.add(_INSERT_SEAL, self._sealed(msgspec.structs.replace(self._seal, closed=True)))
        self._database.write([(_END_RUN, [(at, self.options.run.id)]), *batch.statements()])

    def end_runs(self, ids: Sequence[str], *, at: float) -> None:
        """Runs that nothing was recorded of are not in the database, and stay out of it."""
        if ids:
            self._database.write([(_END_RUN, [(at, run) for run in ids])])

    def write(
        self,
        records: Sequence[Stored],
        *,
        now: float,
        turns: Sequence[Turns | None] = (),
    ) -> None:
        """Write all in one transaction. A Record that the database refuses is
        left out, and counted. `now` is Unix time. `turns` of the Records, where they are known.
        Raises StoreUnavailable, and then nothing was written.
        """
        self._now = now
        known = turns or (None,) * len(records)
        try:
            self._write(list(zip(records, known, strict=True)))
        except RowRefused:
            for each in zip(records, known, strict=True):
                try:
                    self._write([each])
                except RowRefused:
                    self.refused += 1

    def name_runs(self, ids: Iterable[str]) -> list[Statement]:
        """The rows of these runs of `modelplex run`, where they are not in the database yet."""
        batch = _Batch()
        for run in ids:
            if run in self.options.runs:
                self._see_run(batch, run, self._now, "")
        return batch.statements()

    def turns_of(self, record: Record) -> Turns:
        """Where a call is in its conversation, from its body."""
        _, split = self._split(record.request_body or b"", record.dialect, record.agent)
        return Turns(split.turns, split.context)

    def _write(self, records: Sequence[tuple[Stored, Turns | None]]) -> None:
        batch = _Batch()
        try:
            for record, turns in records:
                if isinstance(record, ToolRecord):
                    self._add_tool_call(batch, record)
                elif isinstance(record, RunFacts):
                    self._see_run(batch, record.run, record.started, record.agent)
                    batch.add(rows.INSERT_CALL, self._row(record, Placement(record.run)))
                elif isinstance(record, AdminAct):
                    self._add_act(batch, record)
                else:
                    self._add_call(batch, record, turns)
            seal = self._add_links(batch)
            self._database.write(batch.statements())
            self._seal = seal
        except BaseException:
            # What was placed and noted as known is not in the database.
            self._conversations.forget()
            for known in (self._parts, self._nodes, self._runs, self._headers):
                known.clear()
            raise

    def _add_links(self, batch: _Batch) -> chain.Seal | None:
        """Extend the chain of the run by the records of the batch. Returns its new end."""
        seal, sign = self._seal, self.options.sign
        if seal is None or sign is None or rows.INSERT_CALL not in batch.rows:
            return seal
        bodies = {row[0]: row for row in batch.rows.get(_INSERT_BODY, ())}
        sent: dict[str, list[bytes]] = {}
        for of, _, body in batch.rows.get(_INSERT_SENT, ()):
            sent.setdefault(of, []).append(body)
        number, head = seal.number, seal.head
        for row in batch.rows[rows.INSERT_CALL]:
            call = row[0]
            _, request, response, tokens = bodies.get(call, (call, None, None, None))
            digest = chain.StoredRecord(row, request, response, sent.get(call, ()), tokens).digest
            number += 1
            head = chain.next_link(head, number, digest)
            batch.add(_INSERT_LINK, (seal.run, number, call, digest))
        seal = chain.Seal(seal.run, number, head, closed=False)
        batch.add(_INSERT_SEAL, self._sealed(seal))
        return seal

    def _sealed(self, seal: chain.Seal) -> Row:
        assert self.options.sign is not None
        key, signature = self.options.sign(seal.message)
        return seal.run, seal.number, seal.head, int(seal.closed), key, signature

    # --- one Record ---

    def _split(self, body: bytes, dialect: str, agent: str) -> tuple[bytes, parts.SplitBody]:
        return self._bodies.split(
            body,
            conversation=self.options.conversation(dialect),
            seed=agent.encode(),
            mask=self.options.mask,
        )

    def _add_call(self, batch: _Batch, record: Record, known: Turns | None) -> None:
        received = record.request_body or b""
        response, masked = self._masked(record.response_body)
        body, split = self._split(received, record.dialect, record.agent)
        masked = masked or body != received
        turns = known or Turns(split.turns, split.context)
        place = self._conversations.place(
            Call(
                id=record.id,
                at=record.started,
                agent=record.agent,
                listener=record.listener,
                client=record.client,
                pid=record.peer.pid if record.peer is not None else 0,
                turns=turns.turns,
                context=turns.context,
                previous=record.previous_response,
                response_id=record.response_id,
                run=record.run,
            )
        )
        self._see_run(batch, place.run, record.started, record.agent)
        sent: tuple[SentBody, ...] = ()
        headers = ""
        if self.options.content:
            if body or response:
                request = self._stored_request(batch, split, body) if body else None
                tokens, _ = self._masked(record.tokens)
                batch.add(_INSERT_BODY, _body_row(record.id, request, response, tokens))
            sent = tuple(self._add_sent(batch, record, number) for number in range(len(record.attempts)))
            headers = self._add_headers(batch, record)
        bodies = Bodies(
            messages=len(turns.turns),
            node=turns.turns[-1] if turns.turns and record.previous_response is None else None,
            context=turns.context,
            cut=("response",) if response and len(response) < record.bytes_out else (),
            masked=masked,
            sent=sent,
            headers=headers,
        )
        batch.add(rows.INSERT_CALL, self._row(record, place, bodies))

    def _add_tool_call(self, batch: _Batch, record: ToolRecord) -> None:
        body, masked = self._masked(record.request_body)
        response, masked_out = self._masked(record.response_body)
        place = self._conversations.place(
            Call(
                id=record.id,
                at=record.started,
                kind="tool",
                agent=record.agent,
                listener=record.listener,
                client=record.client,
                run=record.run,
            )
        )
        self._see_run(batch, place.run, record.started, record.agent)
        cut = tuple(
            name
            for name, content, size in (
                ("request", body, record.bytes_in),
                ("response", response, record.bytes_out),
            )
            if content and len(content) < size
        )
        batch.add(rows.INSERT_CALL, self._row(record, place, Bodies(cut=cut, masked=masked or masked_out)))
        if self.options.content and (body or response):
            request = parts.stored_body(parts.SplitBody((body,))) if body else None
            batch.add(_INSERT_BODY, _body_row(record.id, request, response))

    def _add_act(self, batch: _Batch, act: AdminAct) -> None:
        if run := _run_of(act, self.options.run):
            self._see_run(batch, run, act.started, "")
        batch.add(rows.INSERT_CALL, self._row(act, Placement(run)))

    def _add_sent(self, batch: _Batch, record: Record, number: int) -> SentBody:
        """What went to the provider of one attempt, where it is not the client's body."""
        attempt = record.attempts[number]
        if attempt.sent is None:
            return ""
        if attempt.sent == AS_RECEIVED:
            return "same"
        body, split = self._split(attempt.sent, attempt.dialect, record.agent)
        batch.add(_INSERT_SENT, (record.id, number, self._stored_request(batch, split, body)))
        return "stored"

    def _add_headers(self, batch: _Batch, record: Record) -> str:
        """The hash of their part. A program sends the same ones with each request."""
        if not record.headers:
            return ""
        known = self._headers.get(record.headers)
        if known is not None and self._now - known[1] < FRESH_S:
            return known[0]
        content = self.options.mask(_encode(record.headers))
        part = parts.Part(parts.hash_of(content), content)
        self._add_parts(batch, [part], self._now)
        found = part.hash.hex()
        self._headers.put(record.headers, (found, self._now))
        return found

    def _stored_request(self, batch: _Batch, split: parts.SplitBody, body: bytes) -> bytes:
        if len(body) <= parts.WHOLE_BODY:
            return parts.stored_body(parts.SplitBody((body,)))
        at = self._now
        known = self._known_nodes(split, at)
        self._add_parts(batch, [*split.parts[: split.first], *split.parts[split.first + known :]], at)
        seen = self._nodes.get(split.nodes[known - 1]) if known else None
        seen = at if seen is None else min(seen, at)
        before = split.nodes[known - 1] if known else None
        for node, part in zip(split.nodes[known:], split.messages[known:], strict=True):
            batch.add(_INSERT_NODE, (node, at, before, part.hash))
            self._nodes.put(node, seen)
            before = node
        return parts.stored_body(split)

    def _known_nodes(self, split: parts.SplitBody, at: float) -> int:
        """How many messages are in the store, with their parts, and were seen a short while ago."""
        for count in range(len(split.nodes), 0, -1):
            seen = self._nodes.get(split.nodes[count - 1])
            if seen is not None:
                return count if at - seen < FRESH_S else 0
        return 0

    def _add_parts(self, batch: _Batch, wanted: Sequence[parts.Part], at: float) -> None:
        unknown = {
            part.hash: part
            for part in wanted
            if (seen := self._parts.get(part.hash)) is None or at - seen >= FRESH_S
        }
        stored = _stored_parts(self._database, list(unknown)) if len(unknown) > FEW else frozenset[bytes]()
        for hash_, part in unknown.items():
            if hash_ in stored:
                batch.add(_SEE_PART, (at, hash_))
            else:
                encoding, content = parts.compress(part.content)
                batch.add(_INSERT_PART, (hash_, at, len(part.content), encoding, content))
            self._parts.put(hash_, at)

    # --- runs and secrets ---

    def _see_run(self, batch: _Batch, run: str, at: float, agent: str) -> None:
        if self._runs.get(run) is None:
            own = self.options.runs.get(run, self.options.run)
            if own is not None and own.id == run:
                self._add_run(batch, own, kind="run")
            else:
                tags = dict(self.options.tags.get(agent, {}))
                self._add_run(batch, RunInfo(id=run, started=at, agent=agent, tags=tags), kind="conversation")

    def _add_run(self, batch: _Batch, run: RunInfo, *, kind: str) -> None:
        texts = (run.agent, run.command, run.folder, run.repository, run.branch)
        batch.add(_INSERT_RUN, (run.id, run.started, kind, *(self._masked_text(text) for text in texts)))
        for name, value in run.tags.items():
            batch.add(_INSERT_TAG, (run.id, self._masked_text(name), self._masked_text(value)))
        self._runs.put(run.id, run.started)

    def _masked(self, body: bytes | None) -> tuple[bytes, bool]:
        masked = self.options.mask(body or b"")
        return masked, masked != (body or b"")

    def _masked_text(self, text: str) -> str:
        return self.options.mask((rows.clean(text) or "").encode()).decode("utf-8", "replace")

    def _row(self, record: Stored, place: Placement, bodies: Bodies = rows.NO_BODIES) -> Row:
        """Secrets may be in the texts that are not ours: what clients and providers write."""
        row = rows.row_of(record, place, bodies, host=self.options.host)
        whole = "\0".join(filter(None, [row[place] for place in rows.FOREIGN])).encode()
        if self.options.mask(whole) == whole:
            return row
        return tuple(self._masked_text(each) if isinstance(each, str) else each for each in row)


def _run_of(act: AdminAct, own: RunInfo | None) -> str:
    """The run of the gateway, or the one run that it stopped calls of; "" for none."""
    return own.id if own is not None else act.runs[0] if len(act.runs) == 1 else ""


def _body_row(call: str, request: bytes | None, response: bytes, tokens: bytes = b"") -> Row:
    return call, request, *(parts.pack(each) if each else None for each in (response, tokens))


def _stored_parts(database: Database, hashes: list[bytes]) -> frozenset[bytes]:
    found: set[bytes] = set()
    for start in range(0, len(hashes), MAX_LOOKUP):
        some = hashes[start : start + MAX_LOOKUP]
        marks = ", ".join("?" * len(some))
        found.update(
            bytes(row[0])
            for row in database.query(f"SELECT hash FROM parts WHERE hash IN ({marks})", some)  # noqa: S608 - marks only
        )
    return frozenset(found)
