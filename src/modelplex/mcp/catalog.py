"""Merges the catalogs of several servers into one: what a caller sees, in which order and pages,
and which server owns each entry.

PURE. Definitions pass unchanged except for the names of tools and prompts. The order is the
config's, then by code point. An entry that is hidden from a caller has no owner for that caller.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

import msgspec

from modelplex.mcp.constants import Catalog, Era, Json
from modelplex.mcp.names import LIMIT, ToolNames, exposed
from modelplex.mcp.policy import any_of_server, permitted, whole_server
from modelplex.mcp.shapes import Kind, Malformed, mended, older

LIST_TTL_MS: Final = 30_000
"""Milliseconds that a client may cache a list or `server/discover`. Subscribers hear of a change at
once, others soon.
"""
CACHE_SCOPE: Final = "private"
"""Lists differ by caller, so no shared cache may keep them."""

PAGE: Final = 1000
"""Entries per page: so many that a client without paging misses nothing a model could use."""

SCHEMA_SIZE: Final = 262_144
"""Bytes of a tool's input or output schema as JSON. No model reads a larger one."""
SCHEMA_DEPTH: Final = 32
"""Deeper schemas have crashed validators."""

INSTRUCTIONS_OF_ONE: Final = 8_192
INSTRUCTIONS: Final = 32_768
"""Characters of one server's instructions, and of all together: clients send them with every
conversation.
"""

LONGEST_URI: Final = 8_192
"""Characters of a URI that is matched against templates."""
MOST_TEMPLATES: Final = 200
"""Templates of one server: each is tried on every unlisted URI, and servers have a handful."""
LONGEST_TEMPLATE: Final = 2_048
MOST_EXPRESSIONS: Final = 8
"""Expressions of one template: the time of a match grows with them and with the length
of the URI.
"""

RELAYED: Final[Mapping[str, tuple[str, ...]]] = {
    "tools": ("listChanged",),
    "prompts": ("listChanged",),
    "resources": ("listChanged", "subscribe"),
    "completions": (),
    "logging": (),
}
"""Capabilities that the gateway relays, each with its flags."""

_ANNOTATION: Final = "x-mcp-header"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 5.6.2."""
_DATA: Final = frozenset({"const", "default", "enum", "example", "examples"})
"""JSON Schema keywords that hold data, not schemas."""
_MAPS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords below which the keys are names, not keywords."""


class BadCursor(ValueError):
    """A cursor that this gateway did not issue: -32602."""

    sentence = "The cursor is not one that this list gave."


class CatalogWarning(msgspec.Struct, frozen=True):
    """Entries of a server that were left out, for the log and the status. `count` is
    their number.
    """

    server: str
    sentence: str
    count: int = 0


class UsableCatalog(msgspec.Struct, frozen=True, kw_only=True):
    """A catalog without entries that clients reject and without tools that the host does not allow.
    `older_tools` are its tools for clients of older revisions, in the same order.
    """

    catalog: Catalog
    older_tools: tuple[Json, ...] = ()
    warnings: tuple[CatalogWarning, ...] = ()


class ServerOffer(msgspec.Struct, frozen=True, kw_only=True):
    """The catalog of one server, the globs of its config's `tools`, and what approvals hold back,
    by its own names. `checked` is the result of `usable`, if known.
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


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """One server's entries in their final order."""

    server: str
    tools: tuple[CatalogEntry, ...] = ()
    prompts: tuple[CatalogEntry, ...] = ()
    resources: tuple[CatalogEntry, ...] = ()
    templates: tuple[CatalogEntry, ...] = ()
    capabilities: Json = {}
    instructions: str = ""


class MergedCatalog:
    """The merged catalog, for everybody or, from `seen_by`, for one caller.

    `names` and `prompt_names` also hold what approvals hold back, so that a call gets the reason of
    its refusal. They do not hold what the host's globs deny.
    """

    def __init__(
        self,
        parts: Sequence[_Part],
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
        self._templates = [(_template(entry.name), entry) for entry in self._lists["resourceTemplates"]]

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(entries)} {kind}" for kind, entries in self._lists.items())
        return f"<Merged of {len(self._parts)} servers: {counts}>"

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers of which this caller may see anything."""
        return tuple(part.server for part in self._parts)

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
        would be a way into the network.
        """
        if uri in self._owners:
            return self._owners[uri]
        if uri.partition(":")[0].lower() in ("http", "https") or not _is_plain(uri):
            return None
        fitting = [(tokens, entry) for tokens, entry in self._templates if _fits(tokens, uri)]
        most = max((_literals(tokens) for tokens, _ in fitting), default=0)
        best = {entry.server for tokens, entry in fitting if _literals(tokens) == most}
        return best.pop() if len(best) == 1 else None

    def completed(self, ref: Json) -> tuple[str, Json] | None:
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

    def page(self, kind: Kind, *, era: Era = "modern", cursor: str | None = None, size: int = PAGE) -> Json:
        """The result of a list request: `{kind: [...], nextCursor?}`. Raises BadCursor."""
        entries = self._lists[kind]
        start = 0 if cursor is None else _after(entries, cursor, kind=kind)
        shown = entries[start : start + size]
        result: Json = {kind: [entry.definition if era == "modern" else entry.older for entry in shown]}
        if start + size < len(entries):
            last = shown[-1]
            result["nextCursor"] = _cursor(kind, start + size, last)
        return result

    def capabilities(self, *, extra: Collection[str] = ()) -> Json:
        """The merged capabilities of the servers that the caller may see, as far as they are
        relayed; `extra` names further ones.
        """
        merged_: Json = {}
        for part in self._parts:
            for name, claimed in part.capabilities.items():
                if name in RELAYED and isinstance(claimed, dict):
                    flags = {flag: True for flag in RELAYED[name] if cast("Json", claimed).get(flag) is True}
                    merged_[name] = {**merged_.get(name, {}), **flags}
                elif name in extra and isinstance(claimed, dict):
                    merged_[name] = {**merged_.get(name, {}), **cast("Json", claimed)}
        order = [*RELAYED, *extra]
        return {name: merged_[name] for name in order if name in merged_}

    @property
    def instructions(self) -> str | None:
        """The servers' instructions, each below its server's name, cut to the limit."""
        texts = [(part.server, part.instructions) for part in self._parts if part.instructions]
        if not texts:
            return None
        if not self._headed:
            return _cut(texts[0][1], INSTRUCTIONS)
        return _cut(
            "\n\n".join(f"# {server}\n\n{_cut(text, INSTRUCTIONS_OF_ONE)}" for server, text in texts),
            INSTRUCTIONS,
        )

    def seen_by(self, globs: Sequence[str]) -> MergedCatalog:
        """What a caller with these `tools` sees, under the names that everybody has.

        Prompts are chosen by the same globs. Resources and instructions have no such names and need
        a glob that allows the whole server.
        """
        if not globs:
            return self
        reached = [
            part for part in self._parts if any_of_server(part.server, globs, prefixed=self.names.prefixed)
        ]
        # A glob may match a server's prefix and none of its names.
        parts = [part for part in (_seen(each, globs) for each in reached) if _shows(part, globs)]
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
    limit: int = LIMIT,
    reserved: Collection[str] = (),
    alone: bool = False,
) -> MergedCatalog:
    """The catalog of all `offers`, in the config's order. No tool may have a name in `reserved`.

    `alone` is for the route of one server: own names, own order, and instructions without a
    heading.
    """
    given = list(offers)
    checked = {
        offer.server: offer.checked or usable(offer.server, offer.catalog, globs=offer.globs)
        for offer in given
    }
    warnings = [warned for each in checked.values() for warned in each.warnings]
    catalogs = {server: each.catalog for server, each in checked.items()}
    tools = {server: [tool["name"] for tool in each.tools] for server, each in catalogs.items()}
    prompts = {server: [prompt["name"] for prompt in each.prompts] for server, each in catalogs.items()}
    if alone and given:
        names = ToolNames.plain(given[0].server, tools[given[0].server])
        prompt_names = ToolNames.plain(given[0].server, prompts[given[0].server])
    else:
        names = ToolNames.of(tools, prefix=prefix, limit=limit, reserved=reserved)
        prompt_names = ToolNames.of(prompts, prefix=prefix and names.prefixed, limit=limit)
    for each in (names, prompt_names):
        warnings += [CatalogWarning(one.owners[0].server, one.sentence) for one in each.collisions]
    shared = _shared(catalogs, warnings)
    parts = [
        _part(
            offer,
            checked[offer.server],
            names=names,
            prompt_names=prompt_names,
            shared=shared,
            ordered=not alone,
        )
        for offer in given
    ]
    return MergedCatalog(parts, names=names, prompt_names=prompt_names, warnings=warnings, headed=not alone)


def fresh(result: Json, *, ttl_ms: int = LIST_TTL_MS) -> Json:
    """A result with the cache members of revision 2026-07-28."""
    return {**result, "ttlMs": ttl_ms, "cacheScope": CACHE_SCOPE}


_WORDS: Final[Mapping[Kind, tuple[str, str]]] = {
    "tools": ("tool", "name"),
    "prompts": ("prompt", "name"),
    "resources": ("resource", "uri"),
    "resourceTemplates": ("resource template", "uriTemplate"),
}
"""The name of an entry's kind, and the member that identifies an entry."""


def usable(server: str, catalog: Catalog, *, globs: Sequence[str] = ()) -> UsableCatalog:
    """The entries of a catalog that can be listed for any caller. Linear in its size."""
    warnings: list[CatalogWarning] = []

    def leave_out(sentence: str, count: int = 1) -> None:
        warnings.append(CatalogWarning(server, sentence, count))

    def good(kind: Kind, definitions: Iterable[Json]) -> Iterator[Json]:
        word, key = _WORDS[kind]
        for definition in definitions:
            missing = [
                name for name in dict.fromkeys((key, "name")) if not isinstance(definition.get(name), str)
            ]
            if missing:
                leave_out(f"a {word} without {' and '.join(missing)} is left out")
                continue
            if kind == "tools" and not permitted(definition["name"], globs):
                continue
            called = f"the {word} {definition[key][:100]!r}"
            dropped: list[Malformed] = []
            try:
                if fault := _fault(kind, definition):
                    leave_out(f"{called} is left out: {fault}")
                    continue
                entry = mended(kind, definition, dropped=dropped)
            except Malformed as fault:
                leave_out(f"{called} is left out: {fault}")
            else:
                warnings.extend(
                    CatalogWarning(server, f"{called} is listed without what clients refuse: {each}")
                    for each in dropped
                )
                yield entry

    tools = tuple(good("tools", catalog.tools))
    prompts = tuple(good("prompts", catalog.prompts))
    resources = tuple(good("resources", catalog.resources))
    templates = tuple(good("resourceTemplates", catalog.templates))
    if len(templates) > MOST_TEMPLATES:
        leave_out(
            f"of {len(templates)} resource templates all but {MOST_TEMPLATES} are left out",
            len(templates) - MOST_TEMPLATES,
        )
    return UsableCatalog(
        catalog=msgspec.structs.replace(
            catalog, tools=tools, prompts=prompts, resources=resources, templates=templates[:MOST_TEMPLATES]
        ),
        older_tools=tuple(older("tools", tool) for tool in tools),
        warnings=tuple(warnings),
    )


def _fault(kind: Kind, definition: Json) -> str | None:
    """Why a definition cannot be passed on, or None."""
    if kind == "tools":
        return tool_fault(definition)
    if kind == "resourceTemplates":
        text: str = definition["uriTemplate"]
        if len(text) > LONGEST_TEMPLATE or text.count("{") > MOST_EXPRESSIONS:
            return "it is too long"
    return None


def tool_fault(tool: Json) -> str | None:
    """Why a tool's definition cannot be passed on, or None."""
    if tool.get("inputSchema") is None:
        return "it has no inputSchema"
    for member in ("inputSchema", "outputSchema"):
        schema = tool.get(member)
        if schema is None:
            continue
        if _too_deep(schema):
            return f"its {member} is deeper than {SCHEMA_DEPTH}"
        if len(msgspec.json.encode(schema)) > SCHEMA_SIZE:
            return f"its {member} is larger than {SCHEMA_SIZE} bytes"
    _, fault = header_arguments(tool["inputSchema"])
    return fault


def header_arguments(schema: Json) -> tuple[dict[str, tuple[str, ...]], str | None]:
    """The arguments that headers repeat: the path of each argument by the lower-case header name
    after `Mcp-Param-`; and what is wrong with an `x-mcp-header`, or None.

    Valid is a token that no other argument has, on a string, integer or boolean reached through
    `properties` alone. Source: revision 2026-07-28, Streamable HTTP, "Custom Headers from Tool
    Parameters".
    """
    found: dict[str, tuple[str, ...]] = {}
    waiting: list[tuple[tuple[str, ...] | None, object]] = [((), schema)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, list):
            waiting.extend((None, element) for element in cast("list[object]", node))
        if not isinstance(node, dict):
            continue
        members = cast("Json", node)
        if _ANNOTATION in members:
            header = members[_ANNOTATION]
            if not isinstance(header, str) or not _TOKEN.fullmatch(header):
                return {}, f"its {_ANNOTATION} is not the name of a header"
            if not path:
                return {}, f"its {_ANNOTATION} {header} is where no argument is"
            if members.get("type") not in ("string", "integer", "boolean"):
                return {}, f"its {_ANNOTATION} {header} is on what is neither string, integer nor boolean"
            if header.lower() in found:
                return {}, f"its {_ANNOTATION} {header} is there twice"
            found[header.lower()] = path
        for keyword, below in members.items():
            if keyword in _MAPS and isinstance(below, dict):
                through = keyword == "properties" and path is not None
                for name, property_ in cast("Json", below).items():
                    waiting.append(((*path, name) if through and path is not None else None, property_))
            elif keyword not in _DATA and keyword != _ANNOTATION:
                waiting.append((None, below))
    return found, None


def _too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(SCHEMA_DEPTH + 1):
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(cast("Json", node).values())
            elif isinstance(node, list):
                below.extend(cast("list[object]", node))
        if not below:
            return False
        level = below
    return True


def _shared(usable: Mapping[str, Catalog], warnings: list[CatalogWarning]) -> frozenset[str]:
    """URIs and templates that more than one server has; they have no owner."""
    count: Counter[str] = Counter()
    for catalog in usable.values():
        count.update({resource["uri"] for resource in catalog.resources})
        count.update({template["uriTemplate"] for template in catalog.templates})
    shared = frozenset(uri for uri, servers in count.items() if servers > 1)
    for server, catalog in usable.items():
        mine = sorted(shared & {resource["uri"] for resource in catalog.resources})
        mine += sorted(shared & {template["uriTemplate"] for template in catalog.templates})
        warnings += [
            CatalogWarning(server, f"hidden, since another server has it too: {uri[:200]}") for uri in mine
        ]
    return shared


def _part(
    offer: ServerOffer,
    checked: UsableCatalog,
    *,
    names: ToolNames,
    prompt_names: ToolNames,
    shared: frozenset[str],
    ordered: bool,
) -> _Part:
    catalog = checked.catalog

    def of(own: str, name: str, definition: Json, older: Json) -> CatalogEntry:
        return CatalogEntry(name=name, server=offer.server, own=own, definition=definition, older=older)

    def renamed(
        definitions: Sequence[Json], older_ones: Sequence[Json], within: ToolNames, held: frozenset[str]
    ) -> Iterator[CatalogEntry]:
        for definition, former in zip(definitions, older_ones, strict=True):
            own: str = definition["name"]
            name = within.exposed(offer.server, own)
            if name is None or own in held:
                continue
            new = definition if name == own else {**definition, "name": name}
            yield of(own, name, new, new if former is definition else {**former, "name": name})

    def located(definitions: Iterable[Json], member: str) -> Iterator[CatalogEntry]:
        for definition in definitions:
            if (uri := definition[member]) not in shared:
                yield of(uri, uri, definition, definition)

    def order(entries: Iterator[CatalogEntry]) -> tuple[CatalogEntry, ...]:
        return tuple(sorted(entries, key=lambda entry: entry.name) if ordered else entries)

    return _Part(
        server=offer.server,
        tools=order(renamed(catalog.tools, checked.older_tools, names, offer.held_tools)),
        prompts=order(renamed(catalog.prompts, catalog.prompts, prompt_names, offer.held_prompts)),
        resources=order(located(catalog.resources, "uri")),
        templates=order(located(catalog.templates, "uriTemplate")),
        capabilities=catalog.capabilities,
        instructions="" if offer.held_instructions else (catalog.instructions or "").strip(),
    )


def _seen(part: _Part, globs: Sequence[str]) -> _Part:
    def chosen(entries: tuple[CatalogEntry, ...]) -> tuple[CatalogEntry, ...]:
        return tuple(
            entry for entry in entries if permitted([exposed(entry.server, entry.own), entry.name], globs)
        )

    seen = msgspec.structs.replace(part, tools=chosen(part.tools), prompts=chosen(part.prompts))
    if whole_server(part.server, globs):
        return seen
    capabilities = {name: claimed for name, claimed in part.capabilities.items() if name != "resources"}
    return msgspec.structs.replace(
        seen, resources=(), templates=(), instructions="", capabilities=capabilities
    )


def _shows(part: _Part, globs: Sequence[str]) -> bool:
    return bool(part.tools or part.prompts) or whole_server(part.server, globs)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 4].rstrip() + " ..."


def _cursor(kind: Kind, index: int, last: CatalogEntry) -> str:
    """The start of the next page: after this entry, or at this index if the entry is gone."""
    return urlsafe_b64encode(msgspec.json.encode([kind, index, last.server, last.name])).decode().rstrip("=")


def _after(entries: Sequence[CatalogEntry], cursor: str, *, kind: Kind) -> int:
    try:
        content = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        of, index, server, name = msgspec.json.decode(content, type=tuple[str, int, str, str])
    except (ValueError, msgspec.DecodeError):
        raise BadCursor(BadCursor.sentence) from None
    if of != kind or index < 0:
        raise BadCursor(BadCursor.sentence)
    for at, entry in enumerate(entries):
        if entry.server == server and entry.name == name:
            return at + 1
    return min(index, len(entries))


class _Run(msgspec.Struct, frozen=True):
    """The text an expression may expand to: `lead`, then at least `least` characters outside
    `stop`; empty if `optional`.
    """

    stop: str
    least: int = 0
    lead: str = ""
    optional: bool = False


_Token = str | _Run

_EXPRESSIONS: Final[Mapping[str, _Run]] = {
    "+": _Run("", least=1),
    "#": _Run("", lead="#", optional=True),
    ".": _Run("/?#", lead=".", optional=True),
    "/": _Run("?#", lead="/", optional=True),
    ";": _Run("/?#", lead=";", optional=True),
    "?": _Run("#", lead="?", optional=True),
    "&": _Run("#", lead="&", optional=True),
}
_SIMPLE: Final = _Run("/?#", least=1)
_EXPLODED: Final = _Run("?#", least=1)
_EXPRESSION: Final = re.compile(r"\{([^{}]*)\}")
_DOTS: Final = re.compile(r"(?:^|[/\\])(?:\.|%2e){2}(?:[/\\?#]|$)", re.IGNORECASE)


def _template(text: str) -> tuple[_Token, ...]:
    """A URI template as tokens. Neighboring expressions are two runs, each of which may
    be short.
    """
    tokens: list[_Token] = []
    at = 0
    for expression in _EXPRESSION.finditer(text):
        if literal := text[at : expression.start()]:
            tokens.append(literal)
        inside = expression[1]
        simple = _EXPLODED if inside.endswith("*") else _SIMPLE
        tokens.append(_EXPRESSIONS.get(inside[:1], simple))
        at = expression.end()
    if literal := text[at:]:
        tokens.append(literal)
    return tuple(tokens)


def _fits(tokens: Sequence[_Token], uri: str) -> bool:
    """Whether the URI is an expansion of the template. Follows all positions at once, in time of
    both lengths multiplied: a regular expression from a server and a URI from a caller could take
    forever.
    """
    places = [0]
    for token in tokens:
        if isinstance(token, str):
            places = [at + len(token) for at in places if uri.startswith(token, at)]
        else:
            places = _run(token, places, uri)
        if not places:
            return False
    return places[-1] == len(uri)


def _run(run: _Run, places: Sequence[int], uri: str) -> list[int]:
    reached = bytearray(len(uri) + 1)
    covered = -1
    for at in places:
        if run.optional:
            reached[at] = 1
        if not uri.startswith(run.lead, at):
            continue
        first = at + len(run.lead)
        begin = first + run.least
        if begin > len(uri) or any(char in run.stop for char in uri[first:begin]):
            continue
        if begin <= covered:
            continue  # this position was reached before
        ends = (uri.find(char, begin) for char in run.stop)
        covered = min((end for end in ends if end >= 0), default=len(uri))
        reached[begin : covered + 1] = b"\1" * (covered + 1 - begin)
    return [place for place, hit in enumerate(reached) if hit]


def _literals(tokens: Sequence[_Token]) -> int:
    return sum(len(token) for token in tokens if isinstance(token, str))


def _is_plain(uri: str) -> bool:
    """Whether the URI may be matched: one with `..` is not where its template says."""
    return len(uri) <= LONGEST_URI and uri.isprintable() and not _DOTS.search(uri)
