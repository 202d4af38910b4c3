"""The verdict of the sealed policy on a body: parse it strictly, walk it by its dialect's table,
apply the edits.

The caller passes the table; this module knows no dialect. Imports core only.
"""

from __future__ import annotations

import msgspec

from modelplex.core.request import StrippedValue
from modelplex.policy.containers import ObjectRule
from modelplex.policy.model_names import StoreRule
from modelplex.policy.path import dotted, pointer
from modelplex.policy.rules import refusal_message
from modelplex.policy.splice import splice
from modelplex.policy.strict_json import read_strict
from modelplex.policy.tools import FinalCheck
from modelplex.policy.verdict import ALLOW, Amend, Facts, Refuse, Verdict
from modelplex.policy.walk import PolicyRefusal, PolicyWalk


class PolicyTable(msgspec.Struct, frozen=True):
    """The policy of one dialect: the rule of a body's top level, checks that run after it, and
    which providers store a body unless its `store` is false.
    """

    top: ObjectRule
    final_checks: tuple[FinalCheck, ...] = ()
    store: StoreRule = "never"


def judge(body: bytes, *, table: PolicyTable, facts: Facts) -> Verdict:
    """The verdict of the sealed policy on a JSON body.

    Allow: no rule applies, and the body passes byte for byte. Amend: values were stripped or
    overwritten and are reported; all other bytes stay. Refuse: the first value that breaks a rule
    and cannot be stripped.
    """
    walk = PolicyWalk(facts)
    try:
        tree = read_strict(body)
        table.top(walk, tree, None)
        for check in table.final_checks:
            check(walk, tree)
    except PolicyRefusal as refusal:
        path = dotted(refusal.path)
        message = refusal_message(refusal.rule, path, fault=refusal.fault)
        return Refuse(rule=refusal.rule, path=path, message=message)
    if not walk.edits:
        return ALLOW
    stripped = tuple(StrippedValue(pointer(edit.path), edit.rule) for edit in walk.edits if edit.rule)
    return Amend(body=splice(body, walk.edits), stripped=stripped)
