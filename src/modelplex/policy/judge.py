"""Judge a body under the sealed policy: read it whole, walk it by its dialect's table, and return
one of three verdicts.

The caller gives the table; this module knows no dialect. Imports core only.
"""

from __future__ import annotations

import msgspec

from modelplex.core.request import StrippedValue
from modelplex.policy.model_names import StoreRule
from modelplex.policy.path import dotted, pointer
from modelplex.policy.rules import sentence
from modelplex.policy.splice import splice
from modelplex.policy.strict_json import read_whole
from modelplex.policy.tools import Finish
from modelplex.policy.verdict import ALLOW, Amend, Facts, Refuse, Verdict
from modelplex.policy.walk import Edit, ObjectRule, PolicyRefusal, PolicyWalk


class PolicyTable(msgspec.Struct, frozen=True):
    """The policy of one dialect: the rule of its top level, checks that run after it, and where
    its bodies have a `store`.
    """

    top: ObjectRule
    finish: tuple[Finish, ...] = ()
    store: StoreRule = "never"


def judge(body: bytes, *, table: PolicyTable, facts: Facts) -> Verdict:
    """The verdict of the sealed policy on a JSON body.

    Allow: no rule fires, and the body passes byte for byte. Amend: values were stripped or
    overwritten and are reported; all else keeps its bytes. Refuse: the first value that breaks a
    rule and cannot be stripped.
    """
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
