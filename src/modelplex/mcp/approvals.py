"""Compares a server's definitions with those that the host has approved: a hash and a state for
each definition.

PURE. `lockfile` stores approvals and first-seen definitions. A model reads a description as if its
user had written it, so a server that changes one after approval can inject instructions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from typing import Final, Literal, cast

import msgspec

from modelplex.mcp.constants import Catalog, Json
from modelplex.mcp.definition_scan import ApprovalFinding, is_specific, scan
from modelplex.mcp.names import SEPARATOR

Mode = Literal["trust_first", "locked", "off"]
"""`trust_first`: a definition is approved and recorded when first seen; a change is passed on and
logged. `locked`: only what the lock file approves is listed and called.
"""
State = Literal["approved", "pending", "changed"]
Kind = Literal["tool", "prompt", "instructions"]

MEMBERS: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons")
"""Members of a tool, and `_meta.ui`. Other members do not reach a model, so they may change."""
PROMPT_MEMBERS: Final = ("name", "title", "description", "arguments", "icons")

INSTRUCTIONS: Final = "instructions"
"""The name that stands for a server's instructions."""


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
        return frozenset(each.name for each in self.entries if each.kind == kind and each.state != "approved")

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
        return tuple(each for each in self.entries if each.state == "changed")

    @property
    def pending(self) -> tuple[Approval, ...]:
        return tuple(each for each in self.entries if each.state == "pending")

    def find(self, kind: Kind, name: str) -> Approval | None:
        return next((each for each in self.entries if each.kind == kind and each.name == name), None)


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
        stored = (self.seen if trusting else self.lock).get(server)
        if trusting and stored is not None and launch and stored.launch != launch:
            stored = None
        foreign = frozenset(filter(is_specific, others)).difference(
            name for name, _ in _by_name(catalog.tools)
        )
        entries = tuple(
            _entries(server, catalog, stored or LockedServer(), trusting=trusting, others=foreign)
        )
        first = _first_seen(entries, stored, launch=launch, says=says(catalog)) if trusting else None
        return Judgement(
            server=server, mode=self.mode, entries=entries, first=None if first == stored else first
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

    def hashes(
        definitions: Collection[Json], names: Collection[str] | None, members: Collection[str]
    ) -> dict[str, str]:
        return {
            name: hash_of(definition, members=members)
            for name, definition in _by_name(definitions)
            if names is None or name in names
        }

    return msgspec.structs.replace(
        server,
        says=says(catalog),
        instructions=_hash_of_text(catalog.instructions) if instructions else server.instructions,
        tools={**server.tools, **hashes(catalog.tools, tools, MEMBERS)},
        prompts={**server.prompts, **hashes(catalog.prompts, prompts, PROMPT_MEMBERS)},
    )


def hash_of(definition: Json, *, members: Collection[str] = MEMBERS) -> str:
    """`sha256:` and the SHA-256 of the members' canonical JSON: keys sorted, no blanks, UTF-8
    (after RFC 8785, whose forms of numbers JSON readers agree on anyway).
    """
    return _sha256(msgspec.json.encode(_hashed(definition, members), order="deterministic"))


def _hashed(definition: Json, members: Collection[str]) -> Json:
    kept = {name: definition[name] for name in members if name in definition}
    meta = definition.get("_meta")
    if isinstance(meta, dict) and "ui" in meta:
        kept["_meta.ui"] = cast("Json", meta)["ui"]
    return kept


def texts_of(catalog: Catalog) -> dict[tuple[Kind, str], str]:
    """What is hashed of each definition, for people: indented JSON, or the instructions."""

    def text(definition: Json, members: Collection[str]) -> str:
        return msgspec.json.format(
            msgspec.json.encode(_hashed(definition, members), order="deterministic")
        ).decode()

    texts: dict[tuple[Kind, str], str] = {
        ("tool", name): text(tool, MEMBERS) for name, tool in _by_name(catalog.tools)
    }
    texts.update({("prompt", name): text(each, PROMPT_MEMBERS) for name, each in _by_name(catalog.prompts)})
    if catalog.instructions is not None:
        texts["instructions", INSTRUCTIONS] = catalog.instructions
    return texts


def other_tools(catalogs: Mapping[str, Catalog], server: str) -> set[str]:
    """The tools of all servers but this one, by their own names and with their server's prefix."""
    return {
        name
        for other, catalog in catalogs.items()
        if other != server
        for own, _ in _by_name(catalog.tools)
        for name in (own, other + SEPARATOR + own)
    }


def says(catalog: Catalog) -> str:
    """The name and version that a server gives itself, on one line."""
    parts = [str(catalog.info[key]) for key in ("name", "version") if isinstance(catalog.info.get(key), str)]
    return "".join(char for char in " ".join(parts) if char.isprintable())[:100]


def _hash_of_text(text: str | None) -> str | None:
    return None if text is None else _sha256(text.encode(errors="surrogatepass"))


def _sha256(content: bytes) -> str:
    return "sha256:" + sha256(content).hexdigest()


def _by_name(definitions: Collection[Json]) -> Iterator[tuple[str, Json]]:
    for definition in definitions:
        name = definition.get("name")
        if isinstance(name, str):
            yield name, definition


def _entries(
    server: str, catalog: Catalog, stored: LockedServer, *, trusting: bool, others: frozenset[str]
) -> Iterator[Approval]:
    def approval(kind: Kind, name: str, now: str, before: str | None, definition: object) -> Approval:
        new: State = "approved" if trusting else "pending"
        return Approval(
            kind=kind,
            server=server,
            name=name,
            state=new if before is None else "approved" if before == now else "changed",
            hash=now,
            approved=before,
            findings=tuple(scan(definition, others)),
        )

    for name, tool in _by_name(catalog.tools):
        yield approval("tool", name, hash_of(tool), stored.tools.get(name), tool)
    for name, prompt in _by_name(catalog.prompts):
        now = hash_of(prompt, members=PROMPT_MEMBERS)
        yield approval("prompt", name, now, stored.prompts.get(name), prompt)
    if (hashed := _hash_of_text(catalog.instructions)) is not None:
        text = {INSTRUCTIONS: catalog.instructions}
        yield approval("instructions", INSTRUCTIONS, hashed, stored.instructions, text)


def _first_seen(
    entries: Collection[Approval], stored: LockedServer | None, *, launch: str, says: str
) -> LockedServer:
    """The stored definitions plus new ones. A changed definition keeps its first hash, so that it
    is reported until approved.
    """

    def hashes(kind: Kind) -> Mapping[str, str]:
        return {each.name: each.approved or each.hash for each in entries if each.kind == kind}

    before = stored or LockedServer(launch=launch, says=says)
    return msgspec.structs.replace(
        before,
        launch=launch or before.launch,
        instructions=before.instructions or hashes("instructions").get(INSTRUCTIONS),
        tools={**before.tools, **hashes("tool")},
        prompts={**before.prompts, **hashes("prompt")},
    )
