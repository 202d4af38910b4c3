"""Merges the catalogs of several servers into one: what a caller sees, in which order and pages,
and which server owns each entry.

PURE. Definitions pass unchanged except for the names of tools and prompts. The order is the
config's, then by code point. An entry that is hidden from a caller has no owner for that caller.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

import msgspec

from modelplex.mcp.constants import Catalog, Era, Json
from modelplex.mcp.names import MAX_LENGTH, ToolNames, exposed
from modelplex.mcp.policy import any_of_server, permitted, whole_server
from modelplex.mcp.shapes import Kind
from modelplex.mcp.uri_templates import is_matchable, literal_length, matches, parse_template
from modelplex.mcp.usable_catalog import CatalogWarning, UsableCatalog, usable_catalog

LIST_TTL_MS: Final = 30_000
"""Milliseconds that a client may cache a list or `server/discover`. Subscribers are notified
of a change at once.
"""
PAGE_SIZE: Final = 1000
"""Entries per page: so many that a client without paging misses nothing a model could use."""

MAX_SERVER_INSTRUCTIONS: Final = 8_192
MAX_INSTRUCTIONS: Final = 32_768
"""Characters of one server's instructions, and of all together: clients send them with every
conversation.
"""

RELAYED: Final[Mapping[str, tuple[str, ...]]] = {
    "tools": ("listChanged",),
    "prompts": ("listChanged",),
    "resources": ("listChanged", "subscribe"),
    "completions": (),
    "logging": (),
}
"""Capabilities that the gateway relays, each with its flags."""


class BadCursor(ValueError):
    """A cursor that this gateway did not issue: -32602."""

    sentence = "The cursor is not one that this list gave."


class ServerOffer(msgspec.Struct, frozen=True, kw_only=True):
    """The catalog of one server, the globs of its config's `tools`, and what approvals hold back,
    by its own names. `checked` is the result of `usable_catalog`, if known.
    """

    server: str
    catalog: Catalog
    globs: tuple[str, ...] = ()
    held_tools: frozenset[str] = frozenset()
    held_prompts: frozenset[str] = frozenset()
    held_instructions: bool = False
    checked: UsableCatalog | None = None


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a list. `name` is the caller's name for it, `own` the server's; for resources
    both are the URI, for templates the template. `definition` is for clients of 2026-07-28, `older`
    for earlier revisions.
    """

    name: str
    server: str
    own: str
    definition: Json
    older: Json


class _ServerEntries(msgspec.Struct, frozen=True, kw_only=True):
    """One server's entries in their final order."""

    server: str
    tools: tuple[CatalogEntry, ...] = ()
    prompts: tuple[CatalogEntry, ...] = ()
    resources: tuple[CatalogEntry, ...] = ()
    templates: tuple[CatalogEntry, ...] = ()
    capabilities: Json = {}
    instructions: str = ""


class MergedCatalog:
    """The merged catalog, for everybody or, from `visible_to`, for one caller.

    `names` and `prompt_names` also hold what approvals hold back, so that a call gets the reason of
    its refusal. They do not hold what the host's globs deny.
    """

    def __init__(
        self,
        parts: Sequence[_ServerEntries],
        *,
        names: ToolNames,
        prompt_names: ToolNames,
        warnings: Sequence[CatalogWarning],
        headed: bool,
    ) -> None:
        self.names = names
        self.prompt_names = prompt_names
        self.warnings = tuple(warnings)
        self._parts = tuple(parts)
        self._headed = headed
        self._lists: dict[str, tuple[CatalogEntry, ...]] = {
            "tools": tuple(entry for part in parts for entry in part.tools),
            "prompts": tuple(entry for part in parts for entry in part.prompts),
            "resources": tuple(entry for part in parts for entry in part.resources),
            "resourceTemplates": tuple(entry for part in parts for entry in part.templates),
        }
        self._tools = {entry.name: entry for entry in self._lists["tools"]}
        self._prompts = {entry.name: entry for entry in self._lists["prompts"]}
        self._owners = {entry.name: entry.server for entry in self._lists["resources"]}
        self._templates = [(parse_template(entry.name), entry) for entry in self._lists["resourceTemplates"]]

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(entries)} {kind}" for kind, entries in self._lists.items())
        return f"<MergedCatalog of {len(self._parts)} servers: {counts}>"

    def entries(self, kind: Kind) -> tuple[CatalogEntry, ...]:
        return self._lists[kind]

    def tool(self, name: str) -> CatalogEntry | None:
        """The tool with this exposed name; None if it is unknown to the caller or held back."""
        return self._tools.get(name)

    def prompt(self, name: str) -> CatalogEntry | None:
        return self._prompts.get(name)

    def owner(self, uri: str) -> str | None:
        """The server that lists this URI or a template that matches it; None if no server does, or
        several match equally well.

        An `http` or `https` URI is read only if it is listed itself: with a template, a server
        could reach any address of the network.
        """
        if uri in self._owners:
            return self._owners[uri]
        if uri.partition(":")[0].lower() in ("http", "https") or not is_matchable(uri):
            return None
        matching = [each for each in self._templates if matches(each[0], uri)]
        longest = max((literal_length(template) for template, _ in matching), default=0)
        best = {entry.server for template, entry in matching if literal_length(template) == longest}
        return best.pop() if len(best) == 1 else None

    def complete_ref(self, ref: Json) -> tuple[str, Json] | None:
        """The server that owns a completion's `ref`, and the ref with the server's own names."""
        if ref.get("type") == "ref/prompt":
            entry = self.prompt(str(ref.get("name")))
            return (entry.server, {**ref, "name": entry.own}) if entry else None
        uri = str(ref.get("uri"))
        for entry in self._lists["resourceTemplates"]:
            if entry.name == uri:
                return entry.server, ref
        server = self.owner(uri)
        return (server, ref) if server else None

    def page(
        self, kind: Kind, *, era: Era = "modern", cursor: str | None = None, size: int = PAGE_SIZE
    ) -> Json:
        """The result of a list request: `{kind: [...], nextCursor?}`. Raises BadCursor."""
        entries = self._lists[kind]
        start = 0 if cursor is None else _after(entries, cursor, kind=kind)
        page = entries[start : start + size]
        result: Json = {kind: [entry.definition if era == "modern" else entry.older for entry in page]}
        if start + size < len(entries):
            result["nextCursor"] = _cursor(kind, start + size, page[-1])
        return result

    def capabilities(self) -> Json:
        """The relayed capabilities of the servers that the caller may see, merged."""
        merged: Json = {}
        for name, flags in RELAYED.items():
            declared = [part.capabilities.get(name) for part in self._parts]
            objects = [cast("Json", each) for each in declared if isinstance(each, dict)]
            if objects:
                merged[name] = {flag: True for flag in flags if any(o.get(flag) is True for o in objects)}
        return merged

    @property
    def instructions(self) -> str | None:
        """The servers' instructions, each below its server's name, cut to the limit."""
        texts = [(part.server, part.instructions) for part in self._parts if part.instructions]
        if not texts:
            return None
        if not self._headed:
            return _truncate(texts[0][1], MAX_INSTRUCTIONS)
        return _truncate(
            "\n\n".join(
                f"# {server}\n\n{_truncate(text, MAX_SERVER_INSTRUCTIONS)}" for server, text in texts
            ),
            MAX_INSTRUCTIONS,
        )

    def visible_to(self, globs: Sequence[str]) -> MergedCatalog:
        """What a caller with these `tools` sees, under the names that everybody has.

        Prompts are chosen by the same globs. Resources and instructions have no such names and need
        a glob that allows the whole server.
        """
        if not globs:
            return self
        parts = [
            part
            for each in self._parts
            if any_of_server(each.server, globs, prefixed=self.names.prefixed)
            # A glob may match a server's prefix and none of its names.
            and ((part := _visible(each, globs)).tools or part.prompts or whole_server(part.server, globs))
        ]
        return MergedCatalog(
            parts,
            names=self.names,
            prompt_names=self.prompt_names,
            warnings=(),
            headed=self._headed,
        )


def merge(
    offers: Iterable[ServerOffer],
    *,
    prefix: bool = True,
    limit: int = MAX_LENGTH,
    reserved: Collection[str] = (),
    single: bool = False,
) -> MergedCatalog:
    """The catalog of all `offers`, in the config's order. No tool may have a name in `reserved`.

    `single` is for the route of one server: own names, own order, and instructions without a
    heading.
    """
    offers = list(offers)
    checked = {
        offer.server: offer.checked or usable_catalog(offer.server, offer.catalog, globs=offer.globs)
        for offer in offers
    }
    warnings = [warning for each in checked.values() for warning in each.warnings]
    catalogs = {server: each.catalog for server, each in checked.items()}
    tools = {server: [tool["name"] for tool in each.tools] for server, each in catalogs.items()}
    prompts = {server: [prompt["name"] for prompt in each.prompts] for server, each in catalogs.items()}
    if single and offers:
        names = ToolNames.of_one_server(offers[0].server, tools[offers[0].server])
        prompt_names = ToolNames.of_one_server(offers[0].server, prompts[offers[0].server])
    else:
        names = ToolNames.of(tools, prefix=prefix, limit=limit, reserved=reserved)
        prompt_names = ToolNames.of(prompts, prefix=prefix and names.prefixed, limit=limit)
    for each in (names, prompt_names):
        warnings += [CatalogWarning(one.owners[0].server, one.sentence) for one in each.collisions]
    shared = _shared(catalogs, warnings)
    parts = [
        _server_entries(
            offer,
            checked[offer.server],
            names=names,
            prompt_names=prompt_names,
            shared=shared,
            ordered=not single,
        )
        for offer in offers
    ]
    return MergedCatalog(parts, names=names, prompt_names=prompt_names, warnings=warnings, headed=not single)


def _shared(catalogs: Mapping[str, Catalog], warnings: list[CatalogWarning]) -> frozenset[str]:
    """URIs and templates that more than one server has; they have no owner."""
    count: Counter[str] = Counter()
    for catalog in catalogs.values():
        count.update({resource["uri"] for resource in catalog.resources})
        count.update({template["uriTemplate"] for template in catalog.templates})
    shared = frozenset(uri for uri, servers in count.items() if servers > 1)
    for server, catalog in catalogs.items():
        hidden = sorted(shared & {resource["uri"] for resource in catalog.resources})
        hidden += sorted(shared & {template["uriTemplate"] for template in catalog.templates})
        warnings += [
            CatalogWarning(server, f"hidden, since another server has it too: {uri[:200]}") for uri in hidden
        ]
    return shared


def _server_entries(
    offer: ServerOffer,
    checked: UsableCatalog,
    *,
    names: ToolNames,
    prompt_names: ToolNames,
    shared: frozenset[str],
    ordered: bool,
) -> _ServerEntries:
    catalog = checked.catalog

    def entry(own: str, name: str, definition: Json, older: Json) -> CatalogEntry:
        return CatalogEntry(name=name, server=offer.server, own=own, definition=definition, older=older)

    def renamed(
        definitions: Sequence[Json], older_ones: Sequence[Json], names: ToolNames, held: frozenset[str]
    ) -> Iterator[CatalogEntry]:
        for definition, older in zip(definitions, older_ones, strict=True):
            own: str = definition["name"]
            name = names.exposed(offer.server, own)
            if name is None or own in held:
                continue
            new = definition if name == own else {**definition, "name": name}
            yield entry(own, name, new, new if older is definition else {**older, "name": name})

    def by_uri(definitions: Iterable[Json], member: str) -> Iterator[CatalogEntry]:
        for definition in definitions:
            if (uri := definition[member]) not in shared:
                yield entry(uri, uri, definition, definition)

    def order(entries: Iterator[CatalogEntry]) -> tuple[CatalogEntry, ...]:
        return tuple(sorted(entries, key=lambda each: each.name) if ordered else entries)

    return _ServerEntries(
        server=offer.server,
        tools=order(renamed(catalog.tools, checked.older_tools, names, offer.held_tools)),
        prompts=order(renamed(catalog.prompts, catalog.prompts, prompt_names, offer.held_prompts)),
        resources=order(by_uri(catalog.resources, "uri")),
        templates=order(by_uri(catalog.templates, "uriTemplate")),
        capabilities=catalog.capabilities,
        instructions="" if offer.held_instructions else (catalog.instructions or "").strip(),
    )


def _visible(part: _ServerEntries, globs: Sequence[str]) -> _ServerEntries:
    """The entries that these globs allow."""

    def allowed(entries: tuple[CatalogEntry, ...]) -> tuple[CatalogEntry, ...]:
        return tuple(
            entry for entry in entries if permitted([exposed(entry.server, entry.own), entry.name], globs)
        )

    seen = msgspec.structs.replace(part, tools=allowed(part.tools), prompts=allowed(part.prompts))
    if whole_server(part.server, globs):
        return seen
    capabilities = {name: claimed for name, claimed in part.capabilities.items() if name != "resources"}
    return msgspec.structs.replace(
        seen, resources=(), templates=(), instructions="", capabilities=capabilities
    )


def _truncate(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 4].rstrip() + " ..."


def _cursor(kind: Kind, index: int, last: CatalogEntry) -> str:
    """The start of the next page: after this entry, or at this index if the entry is gone."""
    return urlsafe_b64encode(msgspec.json.encode([kind, index, last.server, last.name])).decode().rstrip("=")


def _after(entries: Sequence[CatalogEntry], cursor: str, *, kind: Kind) -> int:
    try:
        content = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        list_, index, server, name = msgspec.json.decode(content, type=tuple[str, int, str, str])
    except (ValueError, msgspec.DecodeError):
        raise BadCursor(BadCursor.sentence) from None
    if list_ != kind or index < 0:
        raise BadCursor(BadCursor.sentence)
    for at, entry in enumerate(entries):
        if entry.server == server and entry.name == name:
            return at + 1
    return min(index, len(entries))
