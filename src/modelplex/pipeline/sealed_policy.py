"""Applies the sealed policy to one request: to the caller's body, and to the body as written for
each candidate.

Facts about a dialect (its table, its headers, whether its URLs have the model name) are in the
Dialect value. A rule may be open for the caller or for one provider, so candidates can be permitted
different bodies: the body is judged once for each set of open rules.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from urllib.parse import urlsplit

import msgspec

from modelplex.config import Config, Secret, provider_types
from modelplex.core.caller import Bound, Caller
from modelplex.core.egress import EgressFacts
from modelplex.core.errors import PolicyDenied
from modelplex.core.request import Attempt, RawRequest, StrippedValue
from modelplex.dialects.raw_request import FORM
from modelplex.dialects.registry import DIALECTS, FORMS
from modelplex.policy.bounds import AllowEntry, bounds_of, limit_for, rule_names
from modelplex.policy.judge import judge
from modelplex.policy.model_names import STORE, refuse_model, required_switches
from modelplex.policy.rules import refusal_message
from modelplex.policy.verdict import Amend, Facts, Refuse
from modelplex.providers.types import TYPES
from modelplex.routing.aliases import is_pattern

UNREAD_FORM = "unread-form"
UNKNOWN_FORM = "unknown-form"
ONE_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
"""A model's name that is one segment of a path, however often it is decoded. A colon or a slash
would begin something else.
"""
ONLY_DOTS = frozenset({".", ".."})
WEB_SEARCH = "web-search"
DISABLE_SEARCH = "disable_search"
SEARCH_DOMAINS = "search_domain_filter"
OPENS: Mapping[str, str] = {"store": "store", DISABLE_SEARCH: WEB_SEARCH}
"""A switch is set unless this rule is open: then the client's value is used."""
IDENTITY = "identity"
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class OpenedRules(msgspec.Struct, frozen=True, cache_hash=True):
    """Rules that are open, and the bounds within which some of them are."""

    rules: frozenset[str] = frozenset()
    bounds: frozenset[Bound] = frozenset()


NOTHING_OPEN = OpenedRules()
OPENED_LIMIT = 1024
"""Pairs of a caller's and a provider's open rules that are remembered: those of a config."""


def opening(allowed: Iterable[AllowEntry]) -> OpenedRules:
    return OpenedRules(rule_names(allowed), bounds_of(allowed))


@lru_cache(maxsize=OPENED_LIMIT)
def _opened_together(allowed: frozenset[str], bounds: frozenset[Bound], more: OpenedRules) -> OpenedRules:
    return OpenedRules(allowed | more.rules, bounds | more.bounds)


class EgressRules(msgspec.Struct, frozen=True):
    """What the config permits to leave.

    secret   of the keyed hashes that stand for callers; the same across restarts
    facts    of each provider, by its name
    moved    providers at another address than their type's service has
    opened   rules that are open for what a provider is sent, and within which bounds
    spelled  (provider, model) that the config names in full: a model that reaches out by itself is
             served only then
    held     the switches of bodies, by what they depend on: provider, dialect, rules that are open
             for it, two of its quirks, and whether the body has a list of domains. Their number is
             the config's
    """

    secret: bytes
    facts: Mapping[str, EgressFacts]
    moved: frozenset[str]
    opened: Mapping[str, OpenedRules]
    spelled: frozenset[tuple[str, str]]
    held: dict[tuple[str, str, OpenedRules, bool, bool, bool], Mapping[str, object]] = {}


def egress_of(config: Config, *, machine: bytes) -> EgressRules:
    """`machine` is a stable value that only this machine has. The API keys are mixed in, since an
    agent on the machine could read that value.
    """
    secret = hashlib.sha256(b"modelplex caller names\0" + machine)
    for provider in config.providers:
        for key in provider.api_key:
            # Of a key that is read later, the place: the machine's value is what counts then.
            secret.update(b"\0" + (key.reveal() if isinstance(key, Secret) else repr(key)).encode())
    targets = {target for targets in config.aliases.values() for target in targets}
    names = {provider.name for provider in config.providers}
    return EgressRules(
        secret=secret.digest(),
        facts={provider.name: TYPES[provider.type].egress for provider in config.providers},
        moved=frozenset(
            provider.name
            for provider in config.providers
            if _is_elsewhere(provider.base_url, provider_types()[provider.type].default_base_url)
        ),
        opened={provider.name: opening(provider.allow) for provider in config.providers if provider.allow},
        spelled=frozenset(
            (provider.name, model)
            for provider in config.providers
            for model in (
                *(name for name in provider.models if not is_pattern(name)),
                *_spelled_by(targets, provider=provider.name, providers=names),
            )
        ),
    )


def _is_elsewhere(base_url: str, usual: str | None) -> bool:
    """Whether a base URL is on another host than the type's service, or one below it (a region's).
    False for a type without a usual address.
    """
    own = urlsplit(usual or "").hostname
    host = urlsplit(base_url).hostname or ""
    return own is not None and host != own and not host.endswith(f".{own}")


def _spelled_by(targets: AbstractSet[str], *, provider: str, providers: AbstractSet[str]) -> Iterator[str]:
    """The models at `provider` that targets of aliases name in full. A target that begins with a
    provider's name is of that provider only.
    """
    for target in targets:
        if is_pattern(target):
            continue
        named, slash, model = target.partition("/")
        if slash and named in providers and named != provider:
            continue
        yield target
        if slash and named == provider:
            yield model


class JudgedRequest(msgspec.Struct, frozen=True):
    """A permitted request, and what was stripped."""

    raw_request: RawRequest
    stripped: tuple[StrippedValue, ...]


class SealedPolicy:
    """The verdicts on one request of a sealed caller."""

    def __init__(self, raw_request: RawRequest, caller: Caller, egress: EgressRules) -> None:
        self._raw_request = raw_request
        self._caller = caller
        self._egress = egress
        self._by_provider: dict[str, JudgedRequest | PolicyDenied] = {}
        self._judged: dict[OpenedRules, JudgedRequest | PolicyDenied] = {}

    def __repr__(self) -> str:
        return f"<SealedPolicy {self._caller.owner}, {len(self._judged)} verdicts>"

    def permitted(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """The permitted candidates. Raises PolicyDenied where there are none."""
        fitting: list[Attempt] = []
        denied: PolicyDenied | None = None
        for attempt in attempts:
            fault = self._denied(attempt)
            if fault is None:
                fitting.append(attempt)
            denied = denied or fault
        if not fitting and denied is not None:
            raise denied
        return fitting

    def judged(self, attempt: Attempt) -> JudgedRequest:
        """The caller's request as permitted for this candidate. Raises PolicyDenied."""
        verdict = self._by_provider.get(attempt.provider) or self._verdict(attempt)
        if isinstance(verdict, PolicyDenied):
            raise verdict
        return verdict

    def facts(self, attempt: Attempt) -> Facts:
        """By which the caller's request is judged for this candidate."""
        return self._facts(self._open(attempt))

    def written(
        self, body: bytes, attempt: Attempt, *, is_passthrough: bool
    ) -> tuple[bytes, tuple[StrippedValue, ...]]:
        """The body for this candidate: judged again where it was translated, and with the switches
        of its type. Raises PolicyDenied.
        """
        stripped: tuple[StrippedValue, ...] = ()
        opened = self._open(attempt)
        if not is_passthrough and attempt.dialect:
            verdict = judge(
                body, table=DIALECTS[attempt.dialect].policy, facts=self._facts(opened, own=attempt.model)
            )
            if isinstance(verdict, Refuse):
                raise denial(verdict)
            if isinstance(verdict, Amend):
                # Ids were hashed before; hashing them again is not reported.
                body, stripped = verdict.body, tuple(s for s in verdict.stripped if s.rule != IDENTITY)
        held = self._switches(attempt, opened)
        if held:
            raw_request = self.judged(attempt).raw_request
            fields = raw_request.fields if body is raw_request.body else None
            body = with_members(body, held, fields=fields)
        return body, stripped

    def switches(self, attempt: Attempt) -> Mapping[str, object]:
        """Members that the body for this candidate must have."""
        return self._switches(attempt, self._open(attempt))

    def _switches(self, attempt: Attempt, opened: OpenedRules) -> Mapping[str, object]:
        where = (
            attempt.provider,
            attempt.dialect,
            opened,
            attempt.quirks.stores_chat,
            STORE in attempt.quirks.refuses,
            SEARCH_DOMAINS in self._raw_request.fields,
        )
        held = self._egress.held.get(where)
        if held is None:
            held = self._egress.held[where] = self._held(attempt, opened)
        return held

    def _denied(self, attempt: Attempt) -> PolicyDenied | None:
        if (attempt.provider, attempt.model) not in self._egress.spelled:
            opened = self._open(attempt)
            facts = self._egress.facts[attempt.provider]
            for found in (_no_segment(attempt), refuse_model(attempt.model, facts=facts)):
                if found is not None and found.rule not in opened.rules:
                    return denial(found)
        verdict = self._by_provider.get(attempt.provider) or self._verdict(attempt)
        return verdict if isinstance(verdict, PolicyDenied) else None

    def _held(self, attempt: Attempt, opened: OpenedRules) -> Mapping[str, object]:
        """The switches that a body must have: those whose rule is not open. Where search is open
        within bounds, a list of domains replaces the switch that turns it off.
        """
        wanted = required_switches(
            self._egress.facts[attempt.provider],
            attempt.dialect,
            store=DIALECTS[attempt.dialect].policy.store if attempt.dialect else "never",
            at_own_address=attempt.provider not in self._egress.moved,
            stores_chat=attempt.quirks.stores_chat,
            refuses=attempt.quirks.refuses,
        )
        held = {name: value for name, value in wanted.items() if OPENS.get(name) not in opened.rules}
        limit = limit_for(opened.bounds, WEB_SEARCH)
        if limit is None or DISABLE_SEARCH not in wanted or DISABLE_SEARCH in held:
            return held
        if limit.domains and limit.max_uses is None:
            return (
                held
                if SEARCH_DOMAINS in self._raw_request.fields
                else {**held, SEARCH_DOMAINS: list(limit.domains)}
            )
        return {**held, DISABLE_SEARCH: True}

    def _open(self, attempt: Attempt) -> OpenedRules:
        caller = self._caller
        more = self._egress.opened.get(attempt.provider, NOTHING_OPEN)
        return _opened_together(caller.allowed, caller.bounds, more)

    def _facts(self, opened: OpenedRules, *, own: str = "") -> Facts:
        caller = self._caller
        return Facts(
            agent=caller.owner,
            secret=self._egress.secret,
            allowed=opened.rules,
            bounds=opened.bounds,
            models=caller.models,
            own_model=own,
        )

    def _verdict(self, attempt: Attempt) -> JudgedRequest | PolicyDenied:
        opened = self._open(attempt)
        verdict = self._judged.get(opened)
        if verdict is None:
            verdict = self._judged[opened] = self._judge(opened)
        self._by_provider[attempt.provider] = verdict
        return verdict

    def _judge(self, opened: OpenedRules) -> JudgedRequest | PolicyDenied:
        raw_request = self._raw_request
        if raw_request.content_type.startswith(FORM):
            if UNREAD_FORM in opened.rules:
                return JudgedRequest(raw_request, ())
            return denial(Refuse(UNREAD_FORM, "", refusal_message(UNREAD_FORM, "")))
        facts = self._facts(opened)
        verdict = judge(
            raw_request.body,
            table=DIALECTS[raw_request.dialect].policy,
            facts=facts,
            fields=raw_request.fields,
        )
        if isinstance(verdict, Refuse):
            return denial(verdict)
        stripped: tuple[StrippedValue, ...] = ()
        if isinstance(verdict, Amend):
            raw_request = msgspec.structs.replace(
                raw_request, body=verdict.body, fields=verdict.fields, judged=True
            )
            stripped = verdict.stripped
        else:
            raw_request = msgspec.structs.replace(raw_request, judged=True)
        if raw_request.headers:
            headers, dropped = DIALECTS[raw_request.dialect].sealed_headers(raw_request.headers, facts)
            raw_request = msgspec.structs.replace(raw_request, headers=headers)
            stripped += dropped
        return JudgedRequest(raw_request, stripped)


def _no_segment(attempt: Attempt) -> Refuse | None:
    """The refusal of a name that is not one segment of a path, where it is part of a URL."""
    form = FORMS.get(attempt.dialect)
    if form is None or not form.model_in_path:
        return None
    if ONE_SEGMENT.fullmatch(attempt.model) and attempt.model not in ONLY_DOTS:
        return None
    return Refuse(UNKNOWN_FORM, "model", refusal_message(UNKNOWN_FORM, "model"))


def denial(refused: Refuse) -> PolicyDenied:
    """The error for the client: status 400, since a changed request would pass."""
    error = PolicyDenied(refused.message, status=400, param=refused.path or None)
    error.rule = refused.rule
    return error


def with_members(
    body: bytes, members: Mapping[str, object], *, fields: Mapping[str, msgspec.Raw] | None = None
) -> bytes:
    """The body with these top-level members, the bytes of every other value unchanged; the same
    object where it has them already. `fields` are the body's own, if decoded: new members are then
    put before them without decoding the body.
    """
    if not members:
        return body
    present = _members(body) if fields is None else fields
    wanted = {name: msgspec.Raw(_encode(value)) for name, value in members.items()}
    if all(bytes(present.get(name, b"")) == bytes(value) for name, value in wanted.items()):
        return body
    if present and present.keys().isdisjoint(wanted):
        return b"".join((_encode(wanted)[:-1], b",", memoryview(body)[body.index(b"{") + 1 :]))
    return _encode({**present, **wanted})
