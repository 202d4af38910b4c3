"""Names of tools and prompts towards clients: `server__tool`, in characters and length that every
model provider accepts.

PURE. A name depends only on its server's name and its own, so it survives restarts and other
servers. Names that would collide are hidden on both sides and reported.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec

SEPARATOR: Final = "__"
"""A server's name has no underscore, so it ends at the first of these."""

MAX_LENGTH: Final = 64
"""Characters of a function's name that every provider accepts."""

HASH_DIGITS: Final = 8
"""Hexadecimal digits at the end of a changed name: 32 bits distinguish the tools of one server."""

_OTHER_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9_-]")


class ServerToolName(msgspec.Struct, frozen=True):
    """A tool or prompt by its server's own name."""

    server: str
    name: str


class Collision(msgspec.Struct, frozen=True):
    """A name that several tools would have. None of them is listed or can be called by it."""

    name: str
    owners: tuple[ServerToolName, ...]

    @property
    def sentence(self) -> str:
        owners = ", ".join(f"{owner.name!r} of {owner.server}" for owner in self.owners)
        return f"hidden, since they would have the same name {self.name}: {owners}"


def exposed(server: str, own: str, *, prefix: bool = True, limit: int = MAX_LENGTH) -> str:
    """The exposed name, of `[A-Za-z0-9_-]`, at most `limit` characters.

    If the name has to be changed or cut, it ends with `_` and 8 hexadecimal digits of the SHA-256
    of the server's own name.
    """
    head = server + SEPARATOR if prefix else ""
    plain = _OTHER_CHARACTERS.sub("_", own)
    if plain and plain == own and len(head) + len(own) <= limit:
        return head + own
    tail = "_" + sha256(own.encode(errors="surrogatepass")).hexdigest()[:HASH_DIGITS]
    return head + plain[: max(limit - len(head) - len(tail), 0)] + tail


class ToolNames(msgspec.Struct, frozen=True, kw_only=True):
    """Exposed names in both directions. `prefixed` is False only if the config says so and no two
    names collide.
    """

    prefixed: bool
    collisions: tuple[Collision, ...]
    owners: Mapping[str, ServerToolName]
    """By exposed name, in the order of the servers and then by code point."""
    exposed_names: Mapping[ServerToolName, str]

    @classmethod
    def of(
        cls,
        offered: Mapping[str, Sequence[str]],
        *,
        prefix: bool = True,
        limit: int = MAX_LENGTH,
        reserved: Collection[str] = (),
    ) -> ToolNames:
        """The names of what each server offers, in the config's order. No tool may have a name in
        `reserved`.

        Without `prefix`, all keep their own names unless two collide: then all are prefixed, and
        the collisions are reported.
        """
        names = _names(offered, limit=limit, prefix=prefix, reserved=reserved)
        if prefix or not names.collisions:
            return names
        prefixed = _names(offered, limit=limit, prefix=True, reserved=reserved)
        return msgspec.structs.replace(prefixed, collisions=names.collisions)

    @classmethod
    def of_one_server(cls, server: str, own: Sequence[str]) -> ToolNames:
        """Names on the route of one server: its own. A name that it has twice is hidden."""
        return _assign({server: own}, lambda owner: owner.name, prefixed=False, reserved=())

    def exposed(self, server: str, own: str) -> str | None:
        """The exposed name; None if it is unknown or hidden."""
        return self.exposed_names.get(ServerToolName(server, own))

    def find(self, name: str) -> ServerToolName | None:
        """The tool with this exposed name; None if it is unknown or hidden."""
        return self.owners.get(name)


def _names(
    offered: Mapping[str, Sequence[str]], *, limit: int, prefix: bool, reserved: Collection[str]
) -> ToolNames:
    return _assign(
        offered,
        lambda owner: exposed(owner.server, owner.name, prefix=prefix, limit=limit),
        prefixed=prefix,
        reserved=reserved,
    )


def _assign(
    offered: Mapping[str, Sequence[str]],
    name_of: Callable[[ServerToolName], str],
    *,
    prefixed: bool,
    reserved: Collection[str],
) -> ToolNames:
    claims: defaultdict[str, list[ServerToolName]] = defaultdict(list)
    for owner in _in_order(offered):
        claims[name_of(owner)].append(owner)
    unique = {
        name: claimants[0]
        for name, claimants in claims.items()
        if len(claimants) == 1 and name not in reserved
    }
    collisions = tuple(
        Collision(name, tuple(claimants)) for name, claimants in claims.items() if name not in unique
    )
    exposed_names = {owner: name for name, owner in unique.items()}
    return ToolNames(prefixed=prefixed, collisions=collisions, owners=unique, exposed_names=exposed_names)


def _in_order(offered: Mapping[str, Sequence[str]]) -> Iterable[ServerToolName]:
    for server, names in offered.items():
        yield from (ServerToolName(server, name) for name in sorted(names))
