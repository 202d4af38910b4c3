"""Chooses the provider's endpoint and dialect for a client's request.

Where the provider has the client's dialect, it is used, so that the bytes can pass unchanged;
otherwise the dialect of the provider's spec. Names no dialect.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import msgspec

from modelplex.core.request import Endpoint
from modelplex.dialects.form import CONVERSATION, Form
from modelplex.dialects.registry import FORMS


class _Endpoints(msgspec.Struct, frozen=True, gc=False):
    """What the forms say about endpoints.

    served_as    the name in a provider's spec of a client's endpoint
    own          the dialect of a family with this name
    beside       conversation endpoints that a provider of another dialect may have too
    counts       token counting endpoints, and their dialect
    converse     endpoints that become a conversation where the provider does not have them
    unread       endpoints whose bodies are not parsed, and their dialect
    """

    served_as: dict[str, Endpoint]
    own: dict[tuple[str, str], str]
    beside: dict[str, str]
    counts: dict[str, str]
    converse: frozenset[str]
    unread: dict[str, str]


@lru_cache(maxsize=8)
def _read(forms: tuple[Form, ...]) -> _Endpoints:
    found: list[tuple[Form, Endpoint, Endpoint]] = [
        (form, form.endpoint, form.served_as)
        for form in forms
        if form.endpoint is not None and form.served_as
    ]
    return _Endpoints(
        served_as={endpoint: served for _, endpoint, served in found},
        own={(form.family.name, served): form.name for form, _, served in found if form.passes},
        beside={endpoint: form.name for form, endpoint, _ in found if form.beside},
        counts={endpoint: form.name for form, endpoint, _ in found if form.counts},
        converse=frozenset(
            endpoint for form, endpoint, served in found if form.converses and served != CONVERSATION
        ),
        unread={
            path.endpoint: form.name
            for form in forms
            if form.endpoint is None
            for path in form.paths.values()
        },
    )


def endpoint_for(
    dialect: str, endpoint: Endpoint, *, serves: Collection[Endpoint], prefers: Endpoint | None = None
) -> tuple[str, Endpoint]:
    """The dialect and the endpoint at a provider of `dialect` that serves `serves`. The dialect is
    "" where the provider cannot serve the request. `prefers` is the endpoint for conversations in
    place of the usual one, where the provider serves it; one without the usual one has another.
    """
    facts = _read(tuple(FORMS.values()))
    usual: tuple[str, Endpoint] = dialect, CONVERSATION
    if CONVERSATION not in serves:
        prefers = next((each for each in serves if each in facts.beside), None)
        usual = "", endpoint
    if prefers is not None and prefers in serves and prefers in facts.beside:
        usual = facts.beside[prefers], prefers
    served = facts.served_as.get(endpoint, endpoint)
    if served == CONVERSATION:
        native = facts.beside.get(endpoint)
        return (native, endpoint) if native and native != dialect and endpoint in serves else usual
    own = facts.own.get((dialect, served), "")
    if endpoint in facts.converse and endpoint in facts.beside:
        return (facts.beside[endpoint], endpoint) if endpoint in serves else usual
    if endpoint in facts.converse and (not own or FORMS[own].endpoint != endpoint):
        return usual  # a prompt is a conversation of one turn
    if endpoint in facts.counts:
        return (facts.counts[endpoint] if endpoint in serves else ""), endpoint
    if served not in serves:
        return "", endpoint
    return (own if endpoint in facts.served_as else facts.unread.get(endpoint, "")), served


def is_beside(endpoint: Endpoint) -> bool:
    """Whether this is an endpoint for conversations that a provider of another dialect may have."""
    return endpoint in _read(tuple(FORMS.values())).beside


def is_count(endpoint: Endpoint) -> bool:
    """Whether the endpoint counts the tokens of a prompt."""
    return endpoint in _read(tuple(FORMS.values())).counts


def is_free(endpoint: Endpoint) -> bool:
    """Whether no provider bills this endpoint."""
    return endpoint == "moderations" or is_count(endpoint)
