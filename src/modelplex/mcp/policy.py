"""Whether a caller may ask a server for one thing: a decision with its rule and its reason, and
nothing done about it.

PURE. Above it stand the hub, which acts on decisions and records them, and the catalogue, which
hides by the same globs what a call would be denied. Below it the caller and the words. It reads the
message's body alone: headers and what a client says of itself decide nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from modelplex.core.caller import Caller
from modelplex.mcp.names import SEPARATOR, exposed

_WILD: Final = re.compile(r"[*?\[]")

Verdict = Literal["allow", "deny"]
Pinned = Literal["approved", "pending", "changed"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`rule` names what decided, for the record: "default", "server_tools", "agent_tools", "pin",
    "scheme", "unlisted".

    `hidden` says that the caller may not know that the thing exists, so that it is answered as an
    unknown name (-32602). A denial that is not hidden is answered as a tool result with `isError`
    and the reason.
    """

    verdict: Verdict
    rule: str
    reason: str = ""
    hidden: bool = False

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"


ALLOWED: Final = Decision(verdict="allow", rule="default")


def permitted(names: str | Sequence[str], globs: Sequence[str]) -> bool:
    """Whether globs allow a thing of this name, or of these names for the one thing: "!" denies and
    wins; without any that allow, the rest is allowed.
    """
    said = (names,) if isinstance(names, str) else names
    denials = [glob[1:] for glob in globs if glob.startswith("!")]
    if any(fnmatchcase(name, glob) for glob in denials for name in said):
        return False
    allowances = [glob for glob in globs if not glob.startswith("!")]
    return not allowances or any(fnmatchcase(name, glob) for glob in allowances for name in said)


def whole_server(server: str, globs: Sequence[str]) -> bool:
    """Whether a caller's globs reach all of a server, and so what has no tool's name: its
    resources, its instructions. `git__*` does, `git__status` does not.
    """
    return permitted(server + SEPARATOR, globs)


def any_of_server(server: str, globs: Sequence[str], *, prefixed: bool = True) -> bool:
    """Whether a caller's globs can reach anything of a server at all; of one that they cannot, not
    even the name is told.

    Where names are not `prefixed`, a glob without a server's name may mean a tool of any.
    """
    head = server + SEPARATOR
    if any(fnmatchcase(head, glob[1:]) for glob in globs if glob.startswith("!")):
        return False
    allowances = [glob for glob in globs if not glob.startswith("!")]
    return not allowances or any(
        _can_begin(head, glob) or not (prefixed or SEPARATOR in glob) for glob in allowances
    )


def _can_begin(head: str, glob: str) -> bool:
    """Whether a glob can match anything that begins with `head`, going by what stands before its
    first wildcard.
    """
    wild = _WILD.search(glob)
    plain = glob[: wild.start()] if wild else glob
    return plain.startswith(head) or bool(wild and head.startswith(plain))


def decide(
    caller: Caller,
    *,
    server: str,
    method: str,
    name: str,
    globs: Sequence[str] = (),
    shown: str | None = None,
    pinned: Pinned = "approved",
    locked: bool = False,
    listed: bool = True,
) -> Decision:
    """Whether this caller may have `method` done with `name` (a tool's or prompt's own name, a
    resource's URI) at `server`.

    `globs` are the server's own `tools`. `shown` is the name under which the caller knows it, where
    that is not `server__name`. `locked` and `pinned` come from the pins. `listed` says of a URI
    that the server lists it or a template for it.
    """
    if method.startswith("resources/"):
        return _resource(caller, server=server, uri=name, listed=listed)
    if method in ("tools/call", "tools/list") and not permitted(name, globs):
        return _hidden("server_tools", "the host does not offer this tool")
    known_as = [exposed(server, name), *([shown] if shown else [])]
    if not permitted(known_as, caller.tools):
        return _hidden("agent_tools", "this agent may not use it")
    if locked and pinned != "approved":
        what = "has changed since it was approved" if pinned == "changed" else "has not been approved"
        return Decision(
            verdict="deny",
            rule="pin",
            reason=f"{name} of {server} {what}: `modelplex mcp approve` approves it",
        )
    return ALLOWED


def _resource(caller: Caller, *, server: str, uri: str, listed: bool) -> Decision:
    if not whole_server(server, caller.tools):
        return _hidden("agent_tools", "this agent may not read it")
    if not listed:
        web = uri.partition(":")[0].lower() in ("http", "https")
        return _hidden("scheme" if web else "unlisted", "no server lists it")
    return ALLOWED


def _hidden(rule: str, reason: str) -> Decision:
    return Decision(verdict="deny", rule=rule, reason=reason, hidden=True)
