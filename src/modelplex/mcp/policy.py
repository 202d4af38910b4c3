"""Decides whether a caller may use something of a server, with the rule and the reason.

PURE. The catalog hides by the same globs what a call would be denied. Only the message's body
counts: no header, and no claim of a client about itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

import msgspec

from modelplex.core.caller import Caller
from modelplex.mcp.approvals import State
from modelplex.mcp.names import SEPARATOR, exposed

_WILD: Final = re.compile(r"[*?\[]")

Verdict = Literal["allow", "deny"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`rule` names the rule that decided, for the record: "default", "server_tools", "agent_tools",
    "pin".

    `hidden` means that the caller may not know that the thing exists: it gets the answer of an
    unknown name (-32602). Another denial is a tool result with `isError` and the reason.
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
    """Whether globs allow a thing of this name, or of these names for one thing. "!" denies and
    wins; without an allowing glob, the rest is allowed.
    """
    names = (names,) if isinstance(names, str) else names
    denials = [glob[1:] for glob in globs if glob.startswith("!")]
    if any(fnmatchcase(name, glob) for glob in denials for name in names):
        return False
    allowances = [glob for glob in globs if not glob.startswith("!")]
    return not allowances or any(fnmatchcase(name, glob) for glob in allowances for name in names)


def whole_server(server: str, globs: Sequence[str]) -> bool:
    """Whether a caller's globs reach all of a server, and so its resources and instructions, which
    have no tool name. `git__*` does, `git__status` does not.
    """
    return permitted(server + SEPARATOR, globs)


def any_of_server(server: str, globs: Sequence[str], *, prefixed: bool = True) -> bool:
    """Whether a caller's globs can reach anything of a server; otherwise the caller does not even
    learn its name.

    If names are not `prefixed`, a glob without a server's name may match a tool of any server.
    """
    head = server + SEPARATOR
    if any(fnmatchcase(head, glob[1:]) for glob in globs if glob.startswith("!")):
        return False
    allowances = [glob for glob in globs if not glob.startswith("!")]
    return not allowances or any(
        _can_begin(head, glob) or not (prefixed or SEPARATOR in glob) for glob in allowances
    )


def _can_begin(head: str, glob: str) -> bool:
    """Whether a glob can match a name that begins with `head`, judged by the text before its first
    wildcard.
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
    state: State = "approved",
    locked: bool = False,
) -> Decision:
    """Whether this caller may use `method` on `name` (a tool's or prompt's own name, or a URI) at
    `server`.

    `globs` are the server's own `tools`. `shown` is the exposed name, if it is not `server__name`.
    `locked` and `state` come from the approvals. A resource must be listed by the server; the
    caller of this function checks that.
    """
    if method.startswith("resources/"):
        if whole_server(server, caller.tools):
            return ALLOWED
        return _hidden("agent_tools", "this agent may not read it")
    if method in ("tools/call", "tools/list") and not permitted(name, globs):
        return _hidden("server_tools", "the host does not offer this tool")
    names = [exposed(server, name), *([shown] if shown else [])]
    if not permitted(names, caller.tools):
        return _hidden("agent_tools", "this agent may not use it")
    if locked and state != "approved":
        reason = "has changed since it was approved" if state == "changed" else "has not been approved"
        sentence = f"{name} of {server} {reason}: `modelplex mcp approve` approves it"
        return Decision(verdict="deny", rule="pin", reason=sentence)
    return ALLOWED


def _hidden(rule: str, reason: str) -> Decision:
    return Decision(verdict="deny", rule=rule, reason=reason, hidden=True)
