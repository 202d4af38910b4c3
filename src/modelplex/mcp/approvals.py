"""Compares what a server offers with what the host has approved: one hash and one state for each
definition, and findings about suspicious descriptions.

PURE. `lockfile` stores approvals and first-seen definitions. A model reads a description as if its
user had written it, so a server that changes one after approval can inject instructions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from typing import Final, Literal, cast

import msgspec

from modelplex.mcp.constants import Catalog, Json

Mode = Literal["trust_first", "locked", "off"]
"""`trust_first`: a definition is approved and recorded when first seen; a change is passed on and
logged. `locked`: only what the lock file approves is listed and called.
"""
State = Literal["approved", "pending", "changed"]
Kind = Literal["tool", "prompt", "instructions"]
Suspicion = Literal["invisible", "escape", "phrase", "other_tool"]

MEMBERS: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons")
"""Members of a tool, and `_meta.ui`. Other members do not reach a model, so they may change."""
PROMPT_MEMBERS: Final = ("name", "title", "description", "arguments", "icons")

INSTRUCTIONS: Final = "instructions"
"""The name that stands for a server's instructions."""

SCANNED: Final = 262_144
"""Characters of one definition that are scanned: as many as a schema may have."""

SPECIFIC: Final = 6
"""Shorter names of other servers' tools are not searched for, nor are common words such as
`search`.
"""

_ESCAPE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_INVISIBLE: Final = frozenset("\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0\u2800")
"""Letters and marks that show nothing, besides the format characters (Cf), whose tags (U+E0000) can
spell hidden text.
"""
_PHRASE: Final = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b[^.\n]{0,40}\b(?:instructions?|prompts?|rules|guidelines)\b"
    r"|\b(?:do not|don't|never|without)\b[^.\n]{0,20}\b(?:tell|inform|mention|reveal|show|notify|telling|informing|mentioning)\b"
    r"[^.\n]{0,30}\b(?:users?|humans?|operators?|anyone)\b"
    r"|</?(?:important|system|instructions?|secret|hidden|admin)>"
    r"|\b(?:system prompt|developer message)\b"
    r"|\b(?:before|prior to)\b[^.\n]{0,20}\busing\b[^.\n]{0,30}\b(?:this|any|other)\b[^.\n]{0,20}\btools?\b[^.\n]{0,40}\b(?:read|send|call|pass)\b"
    r"|(?:~|/home/\w+|/root)/\.(?:ssh|aws|gnupg|netrc|env)\b|\bid_rsa\b",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")


class ApprovalFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Something to look at before approving. `where` is the member, such as
    `inputSchema.properties.path.description`; `what` is safe to print.
    """

    kind: Suspicion
    where: str
    what: str

    @property
    def sentence(self) -> str:
        described = {
            "invisible": "characters that nobody sees",
            "escape": "control characters",
            "phrase": "words that instruct the model",
            "other_tool": "the name of another server's tool",
        }[self.kind]
        return f"{self.where} has {described}: {self.what}"


class LockedServer(msgspec.Struct, frozen=True, kw_only=True):
    """Hashes that are approved or first seen of one server, by its own names. `launch` is the hash
    of how the server is started or reached.

    `says` is the name and version that the server gave itself then, for people.
    """

    launch: str = ""
    command: str = ""
    says: str = ""
    instructions: str | None = None
    tools: dict[str, str] = {}
    prompts: dict[str, str] = {}


Lock = dict[str, LockedServer]
"""By server."""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One definition: its state, its hash now and the one that was approved."""

    kind: Kind
    server: str
    name: str
    state: State
    hash: str
    approved: str | None = None
    findings: tuple[ApprovalFinding, ...] = ()


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a server's definitions. In `locked` mode, what is not approved is held: neither
    listed nor called.
    """

    server: str
    mode: Mode
    entries: tuple[Approval, ...]
    first: LockedServer | None = None
    """What to record in `trust_first` mode; None if nothing is new."""

    def _held(self, kind: Kind) -> frozenset[str]:
        if self.mode != "locked":
            return frozenset()
        return frozenset(pin.name for pin in self.entries if pin.kind == kind and pin.state != "approved")

    @property
    def held_tools(self) -> frozenset[str]:
        return self._held("tool")

    @property
    def held_prompts(self) -> frozenset[str]:
        return self._held("prompt")

    @property
    def held_instructions(self) -> bool:
        return bool(self._held("instructions"))

    @property
    def changed(self) -> tuple[Approval, ...]:
        """Logged in every mode."""
        return tuple(pin for pin in self.entries if pin.state == "changed")

    @property
    def pending(self) -> tuple[Approval, ...]:
        return tuple(pin for pin in self.entries if pin.state == "pending")

    def pin(self, kind: Kind, name: str) -> Approval | None:
        return next((pin for pin in self.entries if pin.kind == kind and pin.name == name), None)


class Approvals(msgspec.Struct, frozen=True, kw_only=True):
    """The mode, what the lock file approves, and what was first seen. `locked` without a `lock`
    approves nothing.
    """

    mode: Mode = "trust_first"
    lock: Lock = {}
    seen: Lock = {}

    def judge(
        self, server: str, catalog: Catalog, *, launch: str = "", others: Collection[str] = ()
    ) -> Judgement:
        """The state of each definition. `launch` is the hash of how the server is started now; what
        was first seen of another launch does not count.

        `others` are the names of other servers' tools, exposed and own; a name that this server has
        too is no finding.
        """
        if self.mode == "off":
            return Judgement(server=server, mode="off", entries=())
        trusting = self.mode == "trust_first"
        known = (self.seen if trusting else self.lock).get(server)
        if trusting and known is not None and launch and known.launch != launch:
            known = None
        strangers = frozenset(others).difference(name for name, _ in _by_name(catalog.tools))
        entries = tuple(
            _entries(server, catalog, known or LockedServer(), trusting=trusting, others=strangers)
        )
        first = _recorded(entries, known, launch=launch, says=says(catalog)) if trusting else None
        return Judgement(
            server=server, mode=self.mode, entries=entries, first=None if first == known else first
        )


def mode_of(pinning: str, *, locked: bool) -> Mode:
    """The mode of `[mcp] pinning`, given whether a lock file exists."""
    if pinning == "auto":
        return "locked" if locked else "trust_first"
    return cast("Mode", pinning)


def approved(
    server: LockedServer,
    catalog: Catalog,
    *,
    tools: Collection[str] | None = None,
    prompts: Collection[str] | None = None,
    instructions: bool = True,
) -> LockedServer:
    """`server` with the hashes of the present catalog, of all definitions or of these names. What
    is not in the catalog any more stays.
    """
    return msgspec.structs.replace(
        server,
        says=says(catalog),
        instructions=_hashed_text(catalog.instructions) if instructions else server.instructions,
        tools={
            **server.tools,
            **{
                name: hash_of(tool)
                for name, tool in _by_name(catalog.tools)
                if tools is None or name in tools
            },
        },
        prompts={
            **server.prompts,
            **{
                name: hash_of(prompt, members=PROMPT_MEMBERS)
                for name, prompt in _by_name(catalog.prompts)
                if prompts is None or name in prompts
            },
        },
    )


def hash_of(definition: Json, *, members: Collection[str] = MEMBERS) -> str:
    """`sha256:` and the SHA-256 of the members' canonical JSON: keys sorted, no blanks, UTF-8
    (after RFC 8785, whose forms of numbers JSON readers agree on anyway).
    """
    kept = {name: definition[name] for name in members if name in definition}
    meta = definition.get("_meta")
    if isinstance(meta, dict) and "ui" in meta:
        kept["_meta.ui"] = cast("Json", meta)["ui"]
    return _sha256(msgspec.json.encode(kept, order="deterministic"))


def says(catalog: Catalog) -> str:
    """The name and version that a server gives itself, on one line."""
    parts = [str(catalog.info[key]) for key in ("name", "version") if isinstance(catalog.info.get(key), str)]
    return "".join(char for char in " ".join(parts) if char.isprintable())[:100]


def _hashed_text(text: str | None) -> str | None:
    return None if text is None else _sha256(text.encode(errors="surrogatepass"))


def _sha256(content: bytes) -> str:
    return "sha256:" + sha256(content).hexdigest()


def _by_name(definitions: Collection[Json]) -> Iterator[tuple[str, Json]]:
    for definition in definitions:
        name = definition.get("name")
        if isinstance(name, str):
            yield name, definition


def _entries(
    server: str, catalog: Catalog, known: LockedServer, *, trusting: bool, others: Collection[str]
) -> Iterator[Approval]:
    specific = _specific(others)

    def pin(kind: Kind, name: str, now: str, before: str | None, scanned: object) -> Approval:
        new: State = "approved" if trusting else "pending"
        state: State = new if before is None else "approved" if before == now else "changed"
        findings = tuple(_scanned(scanned, specific))
        return Approval(
            kind=kind, server=server, name=name, state=state, hash=now, approved=before, findings=findings
        )

    for name, tool in _by_name(catalog.tools):
        yield pin("tool", name, hash_of(tool), known.tools.get(name), tool)
    for name, prompt in _by_name(catalog.prompts):
        now = hash_of(prompt, members=PROMPT_MEMBERS)
        yield pin("prompt", name, now, known.prompts.get(name), prompt)
    if catalog.instructions is not None:
        now = _hashed_text(catalog.instructions) or ""
        yield pin(
            "instructions",
            INSTRUCTIONS,
            now,
            known.instructions,
            {INSTRUCTIONS: catalog.instructions},
        )


def _recorded(
    entries: Collection[Approval], known: LockedServer | None, *, launch: str, says: str
) -> LockedServer:
    """The known definitions plus new ones. A changed definition keeps its first hash, so that it is
    reported until approved.
    """

    def of(kind: Kind) -> Mapping[str, str]:
        return {pin.name: pin.approved or pin.hash for pin in entries if pin.kind == kind}

    before = known or LockedServer(launch=launch, says=says)
    return msgspec.structs.replace(
        before,
        launch=launch or before.launch,
        instructions=before.instructions or of("instructions").get(INSTRUCTIONS),
        tools={**before.tools, **of("tool")},
        prompts={**before.prompts, **of("prompt")},
    )


def _specific(others: Collection[str]) -> frozenset[str]:
    """The names that are no common word."""
    return frozenset(name for name in others if len(name) >= SPECIFIC and not name.isalpha())


def _scanned(definition: object, others: frozenset[str]) -> Iterator[ApprovalFinding]:
    """Suspicious strings of a definition, names of arguments included. `others` are the names of
    other servers' tools that are no common words.
    """
    left = SCANNED
    for path, text in _strings(definition):
        piece = text[:left]
        left -= len(piece)
        yield from _suspect(path, piece, others)
        if left <= 0:
            return


_Path = tuple["_Path", str | int] | None
"""The path to a string, last step first; written out only for a finding."""


def _where(path: _Path) -> str:
    steps: list[str | int] = []
    while path is not None:
        path, step = path
        steps.append(step)
    where = ""
    for step in reversed(steps):
        if isinstance(step, int):
            where += f"[{step}]"
        else:
            where += f".{printable(step)}" if where else printable(step)
    return where or "a key"


def _strings(definition: object) -> Iterator[tuple[_Path, str]]:
    """Every string with its place, keys too; without recursion, since a schema may be as deep as a
    message.
    """
    waiting: list[tuple[_Path, object]] = [(None, definition)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            members = cast("Json", value)
            for key in members:
                if not key.isidentifier():
                    yield path, key
            waiting.extend(((path, key), members[key]) for key in reversed(members))
        elif isinstance(value, list):
            elements = cast("list[object]", value)
            waiting.extend(((path, index), elements[index]) for index in reversed(range(len(elements))))


def _suspect(path: _Path, text: str, others: frozenset[str]) -> Iterator[ApprovalFinding]:
    unseen = (
        []
        if text.isascii()
        else sorted({char for char in text if not char.isascii() and _is_invisible(char)})
    )
    if unseen:
        yield ApprovalFinding(
            kind="invisible", where=_where(path), what=", ".join(f"U+{ord(char):04X}" for char in unseen[:8])
        )
    if _ESCAPE.search(text):
        controls = sorted(set(_ESCAPE.findall(text)))
        yield ApprovalFinding(
            kind="escape", where=_where(path), what=", ".join(f"U+{ord(char):04X}" for char in controls[:8])
        )
    # Invisible characters must not hide a word.
    seen = "".join(char for char in text if char not in unseen) if unseen else text
    if phrase := _PHRASE.search(seen):
        yield ApprovalFinding(kind="phrase", where=_where(path), what=f'"{printable(phrase[0])}"')
    if others and (named := sorted(others & {word.strip(".-") for word in _WORD.findall(seen)})):
        yield ApprovalFinding(
            kind="other_tool", where=_where(path), what=", ".join(printable(name) for name in named[:8])
        )


def _is_invisible(char: str) -> bool:
    # U+200D joins emoji and U+200C separates letters in some scripts. Both are reported, since no
    # description of a tool needs them. U+FE0F, which turns a sign into an emoji, is common.
    if char in _INVISIBLE or unicodedata.category(char) in ("Cf", "Cs", "Co"):
        return True
    return "\ufe00" <= char <= "\ufe0e" or "\U000e0100" <= char <= "\U000e01ef"


def printable(text: str, *, most: int = 80) -> str:
    """Foreign text for one short line on a terminal; invisible and control characters
    are escaped.
    """
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[:most])
