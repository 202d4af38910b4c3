"""What tools and prompts are called towards clients: `server__tool`, in the characters and the
length that every model provider takes.

PURE. Above it stand the catalogue and the hub's routing; below it nothing. A name depends on its
server's name and on its own alone, so it is the same after a restart and whatever other servers are
there. Names that would be equal are hidden on both sides and reported: never first come.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec

SEPARATOR: Final = "__"
"""A server's name holds no underscore, so the first of these is where it ends."""

LIMIT: Final = 64
"""Characters of a function's name that every provider accepts."""

HASH: Final = 8
"""Hexadecimal digits that a name which had to be changed ends with: 32 bits tell apart what one
server offers.
"""

_STRANGE: Final = re.compile(r"[^A-Za-z0-9_-]")


class ServerToolName(msgspec.Struct, frozen=True):
    """A tool or prompt as its server knows it."""

    server: str
    name: str


class Collision(msgspec.Struct, frozen=True):
    """A name that several would have; none of them is listed or can be called by it."""

    name: str
    owners: tuple[ServerToolName, ...]

    @property
    def sentence(self) -> str:
        told = ", ".join(f"{owner.name!r} of {owner.server}" for owner in self.owners)
        return f"hidden, since they would have the same name {self.name}: {told}"


def exposed(server: str, own: str, *, prefix: bool = True, limit: int = LIMIT) -> str:
    """The name towards clients, of `[A-Za-z0-9_-]`, at most `limit` characters.

    Where that changes the name or cuts it, it ends with `_` and 8 hexadecimal digits of the SHA-256
    of the server's own name for it.
    """
    head = server + SEPARATOR if prefix else ""
    plain = _STRANGE.sub("_", own)
    if plain and plain == own and len(head) + len(own) <= limit:
        return head + own
    tail = "_" + sha256(own.encode(errors="surrogatepass")).hexdigest()[:HASH]
    return head + plain[: max(limit - len(head) - len(tail), 0)] + tail


class ToolNames(msgspec.Struct, frozen=True, kw_only=True):
    """Who is called what, both ways. `prefixed` is False only where that was asked for and no two
    names collide.
    """

    prefixed: bool
    collisions: tuple[Collision, ...]
    owners: Mapping[str, ServerToolName]
    """By exposed name, in the order of the servers and then by code point."""
    shown: Mapping[ServerToolName, str]

    @classmethod
    def of(
        cls,
        offered: Mapping[str, Sequence[str]],
        *,
        prefix: bool = True,
        limit: int = LIMIT,
        reserved: Collection[str] = (),
    ) -> ToolNames:
        """The names of what each server offers, `offered` in the config's order. `reserved` are
        names that nobody may have.

        Without `prefix`, all have their own names, unless two of those collide: then all are
        prefixed, and the collisions are told.
        """
        if not prefix:
            bare = _names(offered, limit=limit, prefix=False, reserved=reserved)
            if not bare.collisions:
                return bare
            return msgspec.structs.replace(
                _names(offered, limit=limit, prefix=True, reserved=reserved), collisions=bare.collisions
            )
        return _names(offered, limit=limit, prefix=True, reserved=reserved)

    @classmethod
    def plain(cls, server: str, own: Sequence[str]) -> ToolNames:
        """The names on a route of one server: its own, as they are. One that it gives twice is
        hidden.
        """
        return _made({server: own}, lambda owner: owner.name, prefixed=False, reserved=())

    def exposed(self, server: str, own: str) -> str | None:
        """What clients call it; None where it is unknown or hidden."""
        return self.shown.get(ServerToolName(server, own))

    def find(self, name: str) -> ServerToolName | None:
        """Who has this exposed name; None where it is unknown or hidden."""
        return self.owners.get(name)


def _names(
    offered: Mapping[str, Sequence[str]], *, limit: int, prefix: bool, reserved: Collection[str]
) -> ToolNames:
    return _made(
        offered,
        lambda owner: exposed(owner.server, owner.name, prefix=prefix, limit=limit),
        prefixed=prefix,
        reserved=reserved,
    )


def _made(
    offered: Mapping[str, Sequence[str]],
    name_of: Callable[[ServerToolName], str],
    *,
    prefixed: bool,
    reserved: Collection[str],
) -> ToolNames:
    claims: defaultdict[str, list[ServerToolName]] = defaultdict(list)
    for owner in _in_order(offered):
        claims[name_of(owner)].append(owner)
    alone = {
        name: claimants[0]
        for name, claimants in claims.items()
        if len(claimants) == 1 and name not in reserved
    }
    collisions = tuple(
        Collision(name, tuple(claimants)) for name, claimants in claims.items() if name not in alone
    )
    shown = {owner: name for name, owner in alone.items()}
    return ToolNames(prefixed=prefixed, collisions=collisions, owners=alone, shown=shown)


def _in_order(offered: Mapping[str, Sequence[str]]) -> Iterable[ServerToolName]:
    for server, names in offered.items():
        yield from (ServerToolName(server, name) for name in sorted(names))
