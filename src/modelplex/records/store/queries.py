"""Reads the store: calls, conversations, bodies, runs and usage, as plain values.

Every function takes a Database, blocks, and raises StoreUnavailable. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from modelplex.records.admin_act import AdminAct
from modelplex.records.run_facts import RunFacts
from modelplex.records.store import parts
from modelplex.records.store.database import Database, Row
from modelplex.records.store.rows import ACT, FACTS, SESSION, CallDetail, CallSummary, read_detail

MAX_CALLS: Final = 1_000
"""Rows of one page of calls."""
MAX_HASHES: Final = 500
"""Hashes in one query."""

GroupName = Literal[
    "agent", "model", "provider", "tag", "day", "run", "kind", "outcome", "tool", "server", "host"
]
"""What usage is grouped by. "tag" has a row for each tag as name=value: a call with two tags counts
in both; "tag.NAME" has one for each value of a tag.
"""


class StoredCall(msgspec.Struct, frozen=True):
    """`host` is that of the gateway; "" where an earlier version recorded the call."""

    call: CallSummary
    detail: CallDetail
    has_request: bool
    has_response: bool
    host: str = ""


class RequestPart(msgspec.Struct, frozen=True):
    """A piece of a request body, in its order. `kind` is "message", "part" (another member, such as
    the system prompt or the tools) or "rest" (what is between them). `content` are the bytes as
    they were sent; `hash` is "" for "rest", and alike in every request that has the same piece.
    """

    kind: Literal["message", "part", "rest"]
    content: bytes
    hash: str = ""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run with what its calls add up to. `last` is when its last call began. `kind` is "run" for
    one of `modelplex run`, "conversation" for one that was found.
    """

    id: str
    started: float
    ended: float | None
    kind: str
    agent: str
    command: str
    folder: str
    repository: str
    branch: str
    tags: dict[str, str]
    calls: int
    tool_calls: int
    failed: int
    refused: int
    stripped: int
    tokens_in: int
    tokens_out: int
    cost: float
    unpriced: int
    last: float


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that are alike in `group`, which has a value for each name that was grouped by.
    `refused` were refused by the gateway, `failed` did not end well for another reason.
    """

    group: dict[str, str]
    calls: int
    failed: int
    refused: int
    tokens_in: int
    cache_read: int
    cache_write: int
    tokens_out: int
    reasoning: int
    cost: float
    unpriced: int
    stripped: int


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Empty values select everything. `before` is `(started, id)` of the last call of the page
    before, `after` of the newest call that was seen.
    """

    since: float | None = None
    until: float | None = None
    kind: str = ""
    run: str = ""
    agent: str = ""
    model: str = ""
    provider: str = ""
    server: str = ""
    tool: str = ""
    outcome: str = ""
    unpriced: bool = False
    before: tuple[float, str] | None = None
    after: tuple[float, str] | None = None


_COLUMNS = ", ".join(f"calls.{name}" for name in CallSummary.__struct_fields__)
_decode_headers = msgspec.json.Decoder(list[tuple[str, str]]).decode
_REFUSED = "calls.outcome = 'refused' OR calls.status IN (402, 403, 429) AND calls.attempts = 0"
"""By the gateway: the policy, a limit or a budget."""
_LISTED = f"calls.kind NOT IN ('{SESSION}', '{FACTS}', '{ACT}')"
"""Of rows that are calls."""
_FAILED = f"calls.outcome <> 'ok' AND NOT ({_REFUSED})"
_UNPRICED = "calls.cost IS NULL AND (calls.tokens_in > 0 OR calls.tokens_out > 0)"


def recent_calls(db: Database, where: CallFilter | None = None, *, limit: int = 100) -> list[CallSummary]:
    """The newest calls first."""
    conditions, values = _conditions(where or CallFilter())
    rows = db.query(
        f"SELECT {_COLUMNS} FROM calls WHERE {conditions} ORDER BY started DESC, id DESC LIMIT ?",  # noqa: S608 - our own names
        [*values, min(limit, MAX_CALLS)],
    )
    return [_call(row) for row in rows]


def calls_of_run(db: Database, run: str, *, sessions: bool = False) -> list[CallSummary]:
    """All calls of a run, oldest first; with `sessions` the other requests of tool clients too."""
    rows = db.query(f"SELECT {_COLUMNS} FROM calls WHERE run = ? ORDER BY started, id", (run,))  # noqa: S608 - our own names
    left_out = {FACTS, ACT} if sessions else {FACTS, ACT, SESSION}
    return [call for call in map(_call, rows) if call.kind not in left_out]


def facts_of_run(db: Database, run: str) -> list[RunFacts]:
    """In the order of time; empty for a run of an older version, and one whose sandbox said
    nothing.
    """
    rows = db.query("SELECT detail FROM calls WHERE run = ? AND kind = ? ORDER BY started, id", (run, FACTS))
    found = [read_detail(detail).facts for (detail,) in rows]
    return [each for each in found if each is not None]


def recent_acts(
    db: Database, *, since: float | None = None, run: str = "", limit: int = 100
) -> list[AdminAct]:
    """What admins did, the newest first."""
    conditions, values = [f"kind = '{ACT}'"], list[Any]()
    if since is not None:
        conditions.append("started >= ?")
        values.append(since)
    if run:
        conditions.append("run = ?")
        values.append(run)
    rows = db.query(
        f"SELECT detail, host FROM calls WHERE {' AND '.join(conditions)} ORDER BY started DESC, id DESC LIMIT ?",  # noqa: S608 - our own names
        [*values, min(limit, MAX_CALLS)],
    )
    found = [(read_detail(detail).act, host) for detail, host in rows]
    return [msgspec.structs.replace(act, host=host) for act, host in found if act is not None]


def one_call(db: Database, id: str) -> StoredCall | None:
    found = db.query(f"SELECT {_COLUMNS}, detail, host FROM calls WHERE id = ?", (id,))  # noqa: S608 - our own names
    if not found:
        return None
    bodies = db.query("SELECT request IS NOT NULL, response IS NOT NULL FROM bodies WHERE call = ?", (id,))
    has_request, has_response = bodies[0] if bodies else (False, False)
    *row, detail, host = found[0]
    return StoredCall(_call(row), read_detail(detail), bool(has_request), bool(has_response), host)


# --- bodies ---------------------------------------------------------------------------------------


def request_parts(db: Database, id: str) -> list[RequestPart]:
    """The pieces of a request body, which joined are the body; empty where none is stored."""
    stored = _stored_body(db, id)
    if stored is None:
        return []
    messages = _messages(db, stored)
    hashes = parts.parts_of(stored, messages)
    contents = _contents(db, hashes)
    first, last = len(stored.before), len(stored.before) + len(messages)
    pieces = [RequestPart("rest", stored.literals[0])]
    for number, (hash_, literal) in enumerate(zip(hashes, stored.literals[1:], strict=True)):
        content = parts.restored(contents[hash_], stored.cuts.get(number, ()))
        pieces.append(RequestPart("message" if first <= number < last else "part", content, hash_.hex()))
        pieces.append(RequestPart("rest", literal))
    return [piece for piece in pieces if piece.content]


def request_body(db: Database, id: str) -> bytes | None:
    """Exactly the bytes that the client sent, unless the call's detail says that they were cut or
    masked; None where none are stored.
    """
    stored = _stored_body(db, id)
    return None if stored is None else _joined(db, stored)


def _joined(db: Database, stored: parts.StoredBody) -> bytes:
    hashes = parts.parts_of(stored, _messages(db, stored))
    return parts.join_body(stored, hashes, _contents(db, hashes).__getitem__)


def sent_body(db: Database, id: str, attempt: int) -> bytes | None:
    """The bytes that went to the provider of an attempt, from 1 on; None where none are stored."""
    found = one_call(db, id)
    if found is None or not 1 <= attempt <= len(found.detail.attempts):
        return None
    match found.detail.attempts[attempt - 1].sent:
        case "same":
            return request_body(db, id)
        case "stored":
            rows = db.query("SELECT body FROM sent WHERE call = ? AND attempt = ?", (id, attempt - 1))
            return _joined(db, parts.read_stored(bytes(rows[0][0]))) if rows else None
        case _:
            return None


def request_headers(db: Database, found: StoredCall) -> list[tuple[str, str]]:
    """Those of the request that are kept, as pairs; empty where none are."""
    hash_ = bytes.fromhex(found.detail.headers)
    content = _contents(db, [hash_]).get(hash_) if hash_ else None
    return _decode_headers(content) if content is not None else []


def response_body(db: Database, id: str) -> bytes | None:
    """The bytes that the client received; None where none are stored."""
    found = db.query("SELECT response FROM bodies WHERE call = ? AND response IS NOT NULL", (id,))
    return parts.unpack(bytes(found[0][0])) if found else None


def response_tokens(db: Database, id: str) -> bytes | None:
    """Token ids and log probabilities of the response as JSON; None where none are stored."""
    found = db.query("SELECT tokens FROM bodies WHERE call = ? AND tokens IS NOT NULL", (id,))
    return parts.unpack(bytes(found[0][0])) if found else None


def last_message(db: Database, id: str) -> bytes | None:
    """The last message of a request, without marks of caches; None where the body is not stored, or
    in one piece.
    """
    stored = _stored_body(db, id)
    if stored is None or not stored.node:
        return None
    found = db.query("SELECT part FROM nodes WHERE hash = ?", (stored.node,))
    part = bytes(found[0][0]) if found else b""
    return _contents(db, [part]).get(part)


def search(db: Database, run: str, text: str) -> Iterator[str]:
    """The ids of the calls of a run whose request or response holds this text, oldest first. JSON
    writes some characters in several ways; what is searched are the bytes.
    """
    wanted = text.encode().lower()
    known: dict[str, bool] = {}
    for call in calls_of_run(db, run):
        found = False
        for part in request_parts(db, call.id):
            key = part.hash
            hit = known.get(key) if key else None
            if hit is None:
                hit = wanted in part.content.lower()
                if key:
                    known[key] = hit
            found = found or hit
        if found or wanted in (response_body(db, call.id) or b"").lower():
            yield call.id


def _stored_body(db: Database, id: str) -> parts.StoredBody | None:
    found = db.query("SELECT request FROM bodies WHERE call = ? AND request IS NOT NULL", (id,))
    return parts.read_stored(bytes(found[0][0])) if found else None


def _messages(db: Database, stored: parts.StoredBody) -> list[bytes]:
    """The hashes of the parts from the first message to the body's last node."""
    if not stored.node:
        return []
    rows = db.query(
        "WITH RECURSIVE path (hash, parent, part, place) AS ("
        "SELECT hash, parent, part, 0 FROM nodes WHERE hash = ? UNION ALL "
        "SELECT nodes.hash, nodes.parent, nodes.part, path.place + 1 FROM nodes JOIN path ON nodes.hash = path.parent) "
        "SELECT part FROM path ORDER BY place DESC",
        (stored.node,),
    )
    return [bytes(part) for (part,) in rows]


def _contents(db: Database, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
    wanted = list(dict.fromkeys(hashes))
    found: dict[bytes, bytes] = {}
    for start in range(0, len(wanted), MAX_HASHES):
        some = wanted[start : start + MAX_HASHES]
        marks = ", ".join("?" * len(some))
        rows = db.query(f"SELECT hash, encoding, content FROM parts WHERE hash IN ({marks})", some)  # noqa: S608 - marks only
        found.update((bytes(hash_), parts.decompress(code, bytes(content))) for hash_, code, content in rows)
    return found


# --- runs -----------------------------------------------------------------------------------------

_SUMS = (
    "SUM(CASE WHEN calls.kind = 'model' THEN 1 ELSE 0 END), SUM(CASE WHEN calls.kind = 'tool' THEN 1 ELSE 0 END), "
    f"SUM(CASE WHEN {_FAILED} THEN 1 ELSE 0 END), SUM(CASE WHEN {_REFUSED} THEN 1 ELSE 0 END), "
    "SUM(calls.stripped), SUM(COALESCE(calls.tokens_in, 0)), SUM(COALESCE(calls.tokens_out, 0)), "
    f"SUM(COALESCE(calls.cost, 0.0)), SUM(CASE WHEN {_UNPRICED} THEN 1 ELSE 0 END), MAX(calls.started)"
)
_RUN = "runs.id, runs.started, runs.ended, runs.kind, runs.agent, runs.command, runs.folder, runs.repository, runs.branch"


def recent_runs(
    db: Database, *, since: float | None = None, agent: str = "", host: str = "", limit: int = 100
) -> list[RunSummary]:
    """The newest runs first; `host`: those that a gateway on it has recorded calls of."""
    conditions, values = ["1 = 1"], list[Any]()
    if since is not None:
        conditions.append("runs.started >= ?")
        values.append(since)
    if agent:
        conditions.append("runs.agent = ?")
        values.append(agent)
    if host:
        conditions.append("EXISTS (SELECT 1 FROM calls AS own WHERE own.run = runs.id AND own.host = ?)")
        values.append(host)
    return _runs(db, " AND ".join(conditions), values, limit=limit)


def one_run(db: Database, id: str) -> RunSummary | None:
    found = _runs(db, "runs.id = ?", [id], limit=1)
    return found[0] if found else None


def _runs(db: Database, conditions: str, values: Sequence[Any], *, limit: int) -> list[RunSummary]:
    rows = db.query(
        f"SELECT {_RUN}, {_SUMS} FROM runs LEFT JOIN calls ON calls.run = runs.id AND {_LISTED} WHERE {conditions} "  # noqa: S608 - our own names
        f"GROUP BY {_RUN} ORDER BY runs.started DESC, runs.id DESC LIMIT ?",
        [*values, min(limit, MAX_CALLS)],
    )
    tags = _tags(db, [row[0] for row in rows])
    return [
        RunSummary(
            id=row[0],
            started=row[1],
            ended=row[2],
            kind=row[3],
            agent=row[4],
            command=row[5],
            folder=row[6],
            repository=row[7],
            branch=row[8],
            tags=tags.get(row[0], {}),
            calls=int(row[9] or 0),
            tool_calls=int(row[10] or 0),
            failed=int(row[11] or 0),
            refused=int(row[12] or 0),
            stripped=int(row[13] or 0),
            tokens_in=int(row[14] or 0),
            tokens_out=int(row[15] or 0),
            cost=float(row[16] or 0.0),
            unpriced=int(row[17] or 0),
            last=float(row[18] or row[1]),
        )
        for row in rows
    ]


def _tags(db: Database, runs: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for start in range(0, len(runs), MAX_HASHES):
        some = runs[start : start + MAX_HASHES]
        marks = ", ".join("?" * len(some))
        rows = db.query(f"SELECT run, name, value FROM run_tags WHERE run IN ({marks}) ORDER BY name", some)  # noqa: S608 - marks only
        for run, name, value in rows:
            found.setdefault(run, {})[name] = value
    return found


# --- usage ----------------------------------------------------------------------------------------

_USAGE_SUMS = (
    f"COUNT(*), SUM(CASE WHEN {_FAILED} THEN 1 ELSE 0 END), SUM(CASE WHEN {_REFUSED} THEN 1 ELSE 0 END), "
    "SUM(COALESCE(calls.tokens_in, 0)), SUM(COALESCE(calls.cache_read, 0)), SUM(COALESCE(calls.cache_write, 0)), "
    "SUM(COALESCE(calls.tokens_out, 0)), SUM(COALESCE(calls.reasoning, 0)), SUM(COALESCE(calls.cost, 0.0)), "
    f"SUM(CASE WHEN {_UNPRICED} THEN 1 ELSE 0 END), SUM(calls.stripped)"
)


def is_group(name: str) -> bool:
    return name in get_args(GroupName) or (name.startswith("tag.") and len(name) > len("tag."))


def usage(db: Database, *, by: Sequence[str] = (), where: CallFilter | None = None) -> list[UsageRow]:
    """Sums over calls, one row for each combination of the values of `by`, the most expensive
    first, then the most tokens. Raises ValueError for a name that `is_group` does not know.
    """
    columns, joins, joined = _groups(by)
    conditions, values = _conditions(where or CallFilter())
    selected = ", ".join([*columns, _USAGE_SUMS])
    grouped = f" GROUP BY {', '.join(columns)}" if columns else ""
    rows = db.query(
        f"SELECT {selected} FROM calls{joins} WHERE {conditions}{grouped}",  # noqa: S608 - our own names
        [*joined, *values],
    )
    count = len(columns)
    found = [
        UsageRow(
            group=dict(zip(by, map(str, row[:count]), strict=True)),
            calls=int(row[count]),
            failed=int(row[count + 1]),
            refused=int(row[count + 2]),
            tokens_in=int(row[count + 3]),
            cache_read=int(row[count + 4]),
            cache_write=int(row[count + 5]),
            tokens_out=int(row[count + 6]),
            reasoning=int(row[count + 7]),
            cost=round(float(row[count + 8]), 12),  # adding in another order gives another last digit
            unpriced=int(row[count + 9]),
            stripped=int(row[count + 10]),
        )
        for row in rows
        if row[count]
    ]
    found.sort(key=lambda row: (-row.cost, -row.tokens_in - row.tokens_out, *row.group.values()))
    return found


def _groups(by: Sequence[str]) -> tuple[list[str], str, list[Any]]:
    """The columns to group by, joins that they need, and values of the joins."""
    columns, joins, values = list[str](), "", list[Any]()
    for number, name in enumerate(by):
        if not is_group(name):
            raise ValueError(f"usage cannot be grouped by {name!r}")
        if not name.startswith("tag"):
            columns.append(f"calls.{name}")
            continue
        tags = f"tags{number}"
        joins += f" LEFT JOIN run_tags AS {tags} ON {tags}.run = calls.run"
        if name == "tag":
            columns.append(f"COALESCE({tags}.name || '=' || {tags}.value, '')")
        else:
            joins += f" AND {tags}.name = ?"
            values.append(name.removeprefix("tag."))
            columns.append(f"COALESCE({tags}.value, '')")
    return columns, joins, values


# --- conditions -----------------------------------------------------------------------------------

_EQUAL: Final = ("kind", "run", "agent", "provider", "server", "tool", "outcome")


def _conditions(where: CallFilter) -> tuple[str, list[Any]]:
    conditions, values = [_LISTED], list[Any]()

    def add(sql: str, more: Sequence[Any]) -> None:
        conditions.append(sql)
        values.extend(more)

    for name in _EQUAL:
        if wanted := getattr(where, name):
            add(f"calls.{name} = ?", [wanted])
    if where.model:
        add("(calls.model = ? OR calls.requested_model = ?)", [where.model, where.model])
    if where.since is not None:
        add("calls.started >= ?", [where.since])
    if where.until is not None:
        add("calls.started < ?", [where.until])
    if where.unpriced:
        add(_UNPRICED, [])
    if where.before is not None:
        add("(calls.started < ? OR calls.started = ? AND calls.id < ?)", [where.before[0], *where.before])
    if where.after is not None:
        add("(calls.started > ? OR calls.started = ? AND calls.id > ?)", [where.after[0], *where.after])
    return " AND ".join(conditions), values


def _call(row: Row | list[Any]) -> CallSummary:
    values = dict(zip(CallSummary.__struct_fields__, row, strict=True))
    values["stream"] = bool(values["stream"])
    return CallSummary(**values)
