"""Remembers what a provider's model does not take, after an error that named it.

By caller, since one caller's request must not change another's; with an expiry, since providers
change.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.core.request import Attempt, Change
from modelplex.dialects.core.refused_parameters import (
    TEMPLATE_RULES,
    Refusal,
    refused_parameters,
    without_headers,
)
from modelplex.dialects.dialect import Headers
from modelplex.dialects.registry import DIALECTS

REMEMBERED_S = 3600.0
"""Seconds for which it is remembered; after them a request may fail once and is asked again."""
MAX_REMEMBERED = 1024
"""Callers times models."""
MAX_REFUSALS = 32
"""Of one caller and model; a request has fewer parameters."""
_Key = tuple[str, str, str, str]
Remembered = TypeVar("Remembered")


class RefusedParameters:
    """What models do not take. `now` is seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._refusals: dict[_Key, dict[Refusal, float]] = {}
        self._strict: dict[_Key, dict[tuple[str, str], float]] = {}
        """Quirks of models by name and value, which their chat templates told."""
        self._headers: dict[_Key, dict[tuple[bytes, bytes], float]] = {}
        """Headers, or members of their comma lists."""
        self.version = 0
        """Of what was learnt: another number after each change."""

    def __repr__(self) -> str:
        return f"<RefusedParameters {len(self._refusals)} models, {len(self._strict)} strict>"

    def learn(
        self,
        error: ModelplexError,
        attempt: Attempt,
        body: bytes,
        *,
        caller: str,
        now: float,
        added: Collection[str] = (),
        headers: Headers = (),
    ) -> bool:
        """Remember what the error says of `body` and `headers`, which were sent; `added` are
        members that the gateway added. Returns whether another attempt would send something else.
        """
        key = _key(attempt, caller)
        if headers and (refused := DIALECTS[attempt.dialect].refused_headers(error, headers)):
            self.version += 1
            if key not in self._headers:
                _make_room(self._headers)
            known_headers = self._headers.setdefault(key, {})
            if len(known_headers) > MAX_REFUSALS:
                known_headers.clear()
            known_headers |= dict.fromkeys(refused, now + REMEMBERED_S)
            return True
        if told := _told(error.message, attempt):
            self.version += 1
            if key not in self._strict:
                _make_room(self._strict)
            # What is told last decides (`adapted`), so it stands last.
            rules = self._strict.get(key, {})
            others = {rule: until for rule, until in rules.items() if rule not in told}
            self._strict[key] = others | dict.fromkeys(told, now + REMEMBERED_S)
            return True
        found = refused_parameters(error, body, added=added)
        if found:
            self.version += 1
            if key not in self._refusals:
                _make_room(self._refusals)
            known = self._refusals.setdefault(key, {})
            if len(known) > MAX_REFUSALS:
                known.clear()
            known |= dict.fromkeys(found, now + REMEMBERED_S)
        return bool(found)

    def of(self, attempt: Attempt, *, caller: str, now: float) -> list[Refusal]:
        """What is not sent with this attempt."""
        if not self._refusals:
            return []
        known = self._refusals.get(_key(attempt, caller), {})
        return [refusal for refusal, until in known.items() if now < until]

    def headers_for(
        self, attempt: Attempt, headers: Headers, *, caller: str, now: float
    ) -> tuple[Headers, tuple[Change, ...]]:
        """The headers that are sent with this attempt, and what is reported of the others."""
        known = self._headers.get(_key(attempt, caller), {}) if self._headers else {}
        refused = {header for header, until in known.items() if now < until}
        return without_headers(headers, refused) if refused else (headers, ())

    def adapted(self, attempt: Attempt, *, caller: str, now: float) -> Attempt:
        """The attempt with the quirks that were found out."""
        if not self._strict or (told := self._strict.get(_key(attempt, caller))) is None:
            return attempt
        found = {name: value for (name, value), until in told.items() if now < until}
        if not found:
            return attempt
        return msgspec.structs.replace(attempt, quirks=msgspec.structs.replace(attempt.quirks, **found))


def _told(message: str, attempt: Attempt) -> dict[tuple[str, str], None]:
    """The quirks that a chat template tells and that the attempt did not have. A service without
    system messages stays one: none is first there.
    """
    return {
        (name, value): None
        for said, rule in TEMPLATE_RULES.items()
        if said.search(message)
        for name, value in rule.items()
        if getattr(attempt.quirks, name) not in {value, "nowhere"}
    }


def _key(attempt: Attempt, caller: str) -> _Key:
    return caller, attempt.provider, attempt.model, attempt.endpoint


def _make_room(remembered: dict[_Key, dict[Remembered, float]]) -> None:
    if len(remembered) >= MAX_REMEMBERED:
        remembered.clear()
