"""Whether a body may leave: read whole, walked by its dialect's table, and answered with one of three values.

Above it stands the gateway; below it the tables. It asks nothing of the world.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.call import Stripped
from modelplex.policy import _anthropic, _chat, _gemini, _ollama, _responses, _smaller
from modelplex.policy._path import dotted, pointer
from modelplex.policy._splice import splice
from modelplex.policy._tools import Finish
from modelplex.policy._walk import Edit, Members, Refused, Walk
from modelplex.policy._whole import read_whole
from modelplex.policy.rules import sentence
from modelplex.policy.verdict import ALLOW, Amend, Facts, Refuse, Verdict


class Table(msgspec.Struct, frozen=True):
    """A dialect's: its top level, and what is judged when all of that is."""

    top: Members
    finish: tuple[Finish, ...] = ()


_GEMINI = Table(_gemini.TOP, _gemini.FINISH)
_MESSAGES = Table(_anthropic.TOP, _anthropic.FINISH)
TABLES: Mapping[str, Table] = {
    "openai_chat": Table(_chat.TOP, _chat.FINISH),
    "openai_completions": Table(_smaller.COMPLETIONS),
    "openai_embeddings": Table(_smaller.EMBEDDINGS),
    "openai_json": Table(_smaller.JSON),
    "openai_responses": Table(_responses.TOP, _responses.FINISH),
    "openai_count": Table(_responses.COUNT, _responses.COUNT_FINISH),
    "anthropic_messages": _MESSAGES,
    "anthropic_count": _MESSAGES,
    "gemini": _GEMINI,
    "gemini_array": _GEMINI,
    "gemini_count": Table(_gemini.COUNT, _gemini.FINISH),
    "gemini_embed": Table(_gemini.EMBED),
    "gemini_embed_one": Table(_gemini.EMBED_ONE),
    "ollama": Table(_ollama.CHAT),
    "ollama_generate": Table(_ollama.GENERATE),
    "ollama_embed": Table(_ollama.EMBED),
}
"""By the names that the wire table has for dialects and their smaller forms."""


def judge(body: bytes, *, dialect: str, facts: Facts) -> Verdict:
    """The verdict of the sealed policy on a JSON body.

    Allow: no rule fires, and the body goes byte for byte. Amend: what was stripped or overwritten is told, and all else keeps its bytes. Refuse: the first thing that somebody must have
    meant. Raises KeyError for a dialect that has no table, which is a fault of the caller: what cannot be judged must not go.
    """
    table = TABLES[dialect]
    walk = Walk(facts)
    try:
        tree = read_whole(body)
        table.top(walk, tree, None)
        for finish in table.finish:
            finish(walk, tree)
    except Refused as refused:
        path = dotted(refused.path)
        return Refuse(
            rule=refused.rule, path=path, sentence=sentence(refused.rule, path, short=refused.short)
        )
    if not walk.edits:
        return ALLOW
    return Amend(body=splice(body, walk.edits), stripped=_told(walk.edits))


def _told(edits: list[Edit]) -> tuple[Stripped, ...]:
    return tuple(Stripped(pointer(edit.path), edit.rule) for edit in edits if edit.rule)
