"""Ollama's own form (isolation.md 5.6): a conversation, a prompt, and vectors.

Above it stands the judge; below it the walk. Its server runs the model beside the gateway; what it reads of a request is short, and all of it stands here.
"""

from __future__ import annotations

from modelplex.policy._tools import UNKNOWN_TOOL, of, passing, tools_of
from modelplex.policy._walk import Each, Kinds, Members, inline_bytes

_FUNCTION = Members(passing("type function"))
_TOOL = Kinds({"function": _FUNCTION}, absent=_FUNCTION, otherwise=UNKNOWN_TOOL)
_IMAGES = Each(inline_bytes)
_SHARED = passing("model stream format options keep_alive think logprobs top_logprobs truncate shift")
_MESSAGE = Members(
    of(passing("role content thinking tool_calls tool_name tool_call_id"), {"images": _IMAGES})
)
CHAT = Members(of(_SHARED, {"messages": Each(_MESSAGE), "tools": tools_of(_TOOL)}))
GENERATE = Members(
    of(_SHARED, passing("prompt suffix system template context raw width height steps"), {"images": _IMAGES})
)
EMBED = Members(passing("model input truncate dimensions options keep_alive"))
