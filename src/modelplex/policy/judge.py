"""Whether a body may leave: read whole, walked by its dialect's table, and answered with one of
three values.

Above it stands the gateway; below it the tables. It asks nothing of the world.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.request import StrippedValue
from modelplex.dialects.anthropic import policy as anthropic_policy
from modelplex.dialects.gemini import policy as gemini_policy
from modelplex.dialects.ollama import policy as ollama_policy
from modelplex.dialects.openai_chat import policy as openai_chat_policy
from modelplex.dialects.openai_chat import policy_of_others
from modelplex.dialects.openai_responses import policy as openai_responses_policy
from modelplex.policy.path import dotted, pointer
from modelplex.policy.rules import sentence
from modelplex.policy.splice import splice
from modelplex.policy.strict_json import read_whole
from modelplex.policy.tools import Finish
from modelplex.policy.verdict import ALLOW, Amend, Facts, Refuse, Verdict
from modelplex.policy.walk import Edit, ObjectRule, PolicyRefusal, PolicyWalk


class PolicyTable(msgspec.Struct, frozen=True):
    """A dialect's: its top level, and what is judged when all of that is."""

    top: ObjectRule
    finish: tuple[Finish, ...] = ()


_GEMINI = PolicyTable(gemini_policy.TOP, gemini_policy.FINISH)
_MESSAGES = PolicyTable(anthropic_policy.TOP, anthropic_policy.FINISH)
TABLES: Mapping[str, PolicyTable] = {
    "openai_chat": PolicyTable(openai_chat_policy.TOP, openai_chat_policy.FINISH),
    "openai_completions": PolicyTable(policy_of_others.COMPLETIONS),
    "openai_embeddings": PolicyTable(policy_of_others.EMBEDDINGS),
    "openai_json": PolicyTable(policy_of_others.JSON),
    "openai_responses": PolicyTable(openai_responses_policy.TOP, openai_responses_policy.FINISH),
    "openai_count": PolicyTable(openai_responses_policy.COUNT, openai_responses_policy.COUNT_FINISH),
    "anthropic_messages": _MESSAGES,
    "anthropic_count": _MESSAGES,
    "gemini": _GEMINI,
    "gemini_array": _GEMINI,
    "gemini_count": PolicyTable(gemini_policy.COUNT, gemini_policy.FINISH),
    "gemini_embed": PolicyTable(gemini_policy.EMBED),
    "gemini_embed_one": PolicyTable(gemini_policy.EMBED_ONE),
    "ollama": PolicyTable(ollama_policy.CHAT),
    "ollama_generate": PolicyTable(ollama_policy.GENERATE),
    "ollama_embed": PolicyTable(ollama_policy.EMBED),
}
"""By the names that the wire table has for dialects and their smaller forms."""


def judge(body: bytes, *, dialect: str, facts: Facts) -> Verdict:
    """The verdict of the sealed policy on a JSON body.

    Allow: no rule fires, and the body goes byte for byte. Amend: what was stripped or overwritten
        is told, and all else keeps its bytes. Refuse: the first thing that somebody must have
    meant. Raises KeyError for a dialect that has no table, which is a fault of the caller: what
    cannot be judged must not go.
    """
    table = TABLES[dialect]
    walk = PolicyWalk(facts)
    try:
        tree = read_whole(body)
        table.top(walk, tree, None)
        for finish in table.finish:
            finish(walk, tree)
    except PolicyRefusal as refused:
        path = dotted(refused.path)
        return Refuse(
            rule=refused.rule, path=path, sentence=sentence(refused.rule, path, short=refused.short)
        )
    if not walk.edits:
        return ALLOW
    return Amend(body=splice(body, walk.edits), stripped=_told(walk.edits))


def _told(edits: list[Edit]) -> tuple[StrippedValue, ...]:
    return tuple(StrippedValue(pointer(edit.path), edit.rule) for edit in edits if edit.rule)
