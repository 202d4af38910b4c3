"""The verdict of the sealed policy on a body: parse it strictly, walk it by its dialect's table,
apply the edits.

The caller passes the table; this module knows no dialect. Imports core only.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.request import StrippedValue
from modelplex.policy.by_member import MemberWalk
from modelplex.policy.containers import ObjectRule
from modelplex.policy.model_names import StoreRule
from modelplex.policy.path import dotted, pointer
from modelplex.policy.rules import refusal_message
from modelplex.policy.splice import encode, members_of, spliced
from modelplex.policy.strict_json import read_strict
from modelplex.policy.tools import FinalCheck
from modelplex.policy.verdict import ALLOW, Amend, Facts, Refuse, Verdict
from modelplex.policy.walk import PolicyRefusal, PolicyWalk


class PolicyTable:
    """The policy of one dialect: the rule of a body's top level, checks that run after it, and
    which providers store a body unless its `store` is false.
    """

    __slots__ = ("final_checks", "store", "top", "walk_members")

    def __init__(
        self, top: ObjectRule, final_checks: tuple[FinalCheck, ...] = (), *, store: StoreRule = "never"
    ) -> None:
        self.top = top
        self.final_checks = final_checks
        self.store: StoreRule = store
        self.walk_members = MemberWalk(top)


def judge(
    body: bytes, *, table: PolicyTable, facts: Facts, fields: Mapping[str, msgspec.Raw] | None = None
) -> Verdict:
    """The verdict of the sealed policy on a JSON body.

    Allow: no rule applies, and the body passes byte for byte. Amend: values were stripped or
    overwritten and are reported; all other bytes stay. Refuse: the first value that breaks a rule
    and cannot be stripped. `fields` are the members of this body, if they are decoded already.
    """
    return _judged_by_member(body, table, facts, fields) or judge_whole(body, table=table, facts=facts)


def _judged_by_member(
    body: bytes, table: PolicyTable, facts: Facts, fields: Mapping[str, msgspec.Raw] | None
) -> Verdict | None:
    """The verdict, unless the body is refused or its members cannot be told apart."""
    walk = PolicyWalk(facts)
    top = table.walk_members(walk, body, fields)
    if top is None:
        return None
    try:
        for check in table.final_checks:
            check(walk, top)
    except PolicyRefusal:
        return None
    return _passes(body, walk, fields)


def judge_whole(body: bytes, *, table: PolicyTable, facts: Facts) -> Verdict:
    """The verdict by a walk over the whole body."""
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
    return _passes(body, walk, None)


def _passes(body: bytes, walk: PolicyWalk, fields: Mapping[str, msgspec.Raw] | None) -> Verdict:
    if not walk.edits:
        return ALLOW
    stripped = tuple(StrippedValue(pointer(edit.path), edit.rule) for edit in walk.edits if edit.rule)
    left = spliced(members_of(body) if fields is None else fields, walk.edits)
    return Amend(body=encode(left), fields=left, stripped=stripped)
