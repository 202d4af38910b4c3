"""A provider at run time: address, keys and dialect, with the HTTP client.

Errors of the HTTP client are mapped here and nowhere else. Keys are only in the signers, and in no
`repr`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from modelplex.config import ProviderConfig, Secret
from modelplex.core.errors import ModelplexError, UpstreamBroken, UpstreamEncoded, UpstreamTimeout
from modelplex.core.events import ListedModel
from modelplex.core.request import Attempt, Endpoint, RawRequest
from modelplex.dialects.core.sse import BOM
from modelplex.dialects.endpoints import endpoint_for, is_beside
from modelplex.dialects.form import CONVERSATION
from modelplex.dialects.registry import provider_dialect
from modelplex.http_client import (
    ConnectFailed,
    HttpClient,
    HttpResponse,
    Origin,
    ResponseTooLarge,
    SendError,
    TimedOut,
    Timeouts,
    UpstreamConnection,
    parse_origin,
)
from modelplex.pipeline.content_decoding import decoded
from modelplex.pipeline.offload import is_large
from modelplex.providers import request_head
from modelplex.providers.model_facts import model_facts
from modelplex.providers.request_body import VERTEX_VERSION, vertex_body, with_added
from modelplex.providers.signing import Signer, StaticKey, UpstreamRequest, account
from modelplex.providers.specs import ProviderSpec
from modelplex.records.log import Secrets
from modelplex.records.price import Seller, seller_of

if TYPE_CHECKING:
    from modelplex.credentials.key_command import RunCommand

FORWARDED = frozenset({b"retry-after", b"retry-after-ms", b"x-should-retry"})
FORWARDED_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-")
REFUSES_KEY = frozenset({401, 403})
UPSTREAM_ID = frozenset({b"x-request-id", b"request-id", b"x-amzn-requestid"})
REMEMBERED = 4096
"""Models whose attempts are cached; more than any provider has."""
STARTS = 256
"""Request heads that are kept. Those with the boundary of a form are used once; all are forgotten
together, so that they do not keep out the others.
"""
START_SIZE = 4096
"""Bytes of a head that is kept: usual ones have 300. A client's betas may have 60 KB."""
MAX_ERROR_BODY = 65536
"""Bytes of a provider's error that are read: an error is a sentence, a page of HTML at worst."""
MAX_LISTING = 16 * 1024 * 1024
"""Bytes of a provider's model list; the largest have about 1 MB."""
PROVIDER = b"the provider"
"""Replaces its address in errors that callers read."""
LISTING_TIMEOUTS = Timeouts(connect=5.0, first_byte=15.0, idle=15.0)
"""Seconds; shorter than those of a response."""


class UpstreamResponse(Protocol):
    """A response with a status below 300, its headers, and a body to be pulled."""

    @property
    def status(self) -> int: ...
    def header(self, name: bytes) -> bytes | None: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    async def chunk(self) -> bytes | None:
        """The next bytes; b"" at the end; None where `nudge` woke the reader before any came."""
        ...

    async def deliver(self, take: Callable[[bytes], bool]) -> bool:
        """Call `take` with the next bytes as they arrive, until it returns False or `chunk` has
        something else to return. Returns True if `nudge` ended it. May return False at once.
        """
        ...

    async def body(self, *, limit: int) -> bytes: ...
    def nudge(self) -> None: ...
    def close(self) -> None: ...


class Upstream(Protocol):
    """One configured provider."""

    name: str
    type: str
    base_url: str
    max_response_size: int
    seller: Seller
    keys: int
    trace_context: bool
    """Whether `open` may be given header lines of a trace."""

    def attempts(self, model: str, endpoint: Endpoint) -> list[Attempt]:
        """One attempt for each key, with the dialect and endpoint that serve the request."""
        ...

    def usual(self, attempt: Attempt) -> Attempt | None:
        """The same conversation at the provider's usual endpoint, in its own dialect; None where
        this is that attempt already.
        """
        ...

    async def open(
        self, raw_request: RawRequest, attempt: Attempt, body: bytes, *, trace: bytes = b""
    ) -> UpstreamResponse:
        """Send the request. Raises ModelplexError for everything but a status below 300."""
        ...

    def prepared(self, raw_request: RawRequest, attempt: Attempt) -> PreparedPost | None:
        """What later requests like this one have in common with it; None where they may differ in
        more than their body.
        """
        ...

    async def models(self) -> list[ListedModel]: ...

    def hide(self, text: bytes) -> bytes:
        """An error text without keys and addresses: some providers repeat the whole request."""
        ...


_Start = tuple[str, str, int, bool, str, tuple[tuple[bytes, bytes], ...]]
"""What the head of a request depends on: endpoint, model, key, streaming, content type, headers."""


class HttpUpstream:
    """A provider behind HTTP."""

    def __init__(
        self,
        config: ProviderConfig,
        row: ProviderSpec,
        client: HttpClient,
        *,
        clock: Callable[[], float] = time,
        failed_command: Callable[[str], None] = lambda _: None,
        run_command: RunCommand | None = None,
    ) -> None:
        self.name = config.name
        self.type = config.type
        self.base_url = config.base_url
        self.max_response_size = config.max_response_size
        self.seller = seller_of(config)
        self.trace_context = config.trace_context
        self._row = row
        self._api_version = config.api_version
        is_elsewhere = config.base_url != row.base_url
        elsewhere: dict[str, object] = dict(row.quirks_elsewhere) if is_elsewhere else {}
        self._quirks = msgspec.structs.replace(row.quirks, **{**elsewhere, **config.quirks})
        if config.api_version is not None:
            self._quirks = msgspec.structs.replace(self._quirks, api_version=config.api_version)
        origin, self._path = parse_origin(config.base_url)
        self._serves = _served(config, row)
        if origin.tls:
            origin = msgspec.structs.replace(origin, verify=config.verify_tls, ca_file=config.ca_file)
        self._origin = origin
        self._client = client
        self._added = config.body
        self._has_own_body = bool(row.body or config.body)
        self._clock = clock
        self._timeouts = Timeouts(
            connect=config.connect_timeout, first_byte=config.first_byte_timeout, idle=config.idle_timeout
        )
        extra = {name: value.reveal() for name, value in config.headers.items()}
        self._headers = request_head.request_headers(row, extra=extra, api_version=config.api_version)
        commands = (failed_command, run_command)
        signers = _signers(config, row, client, extra=extra, clock=clock, commands=commands)
        self.signers: list[Signer] = [signer for signer, _ in signers]
        """One for each key, by the index that an Attempt has."""
        self._attempts: dict[tuple[str, Endpoint], list[Attempt]] = {}
        self._starts: dict[_Start, bytes] = {}
        self.keys = len(signers)
        self._accounts = [account for _, account in signers]
        keys = [key.reveal() for key in config.api_key if isinstance(key, Secret)]
        self._secrets = Secrets([*keys, *extra.values()])
        self._own_address = _address_of(origin)

    def __repr__(self) -> str:
        return f"<HttpUpstream {self.name} ({self.type}) at {self._origin}{self._path}, {self.keys} keys>"

    def attempts(self, model: str, endpoint: Endpoint) -> list[Attempt]:
        attempts = self._attempts.get((model, endpoint))
        if attempts is None:
            attempts = self._new_attempts(model, endpoint)
            if len(self._attempts) < REMEMBERED:
                self._attempts[model, endpoint] = attempts
        return attempts

    def usual(self, attempt: Attempt) -> Attempt | None:
        if attempt.dialect == self._row.dialect or not is_beside(attempt.endpoint):
            return None
        dialect, served = endpoint_for(self._row.dialect, CONVERSATION, serves=self._serves)
        if served == attempt.endpoint or not dialect:
            return None
        facts = model_facts(attempt.model, dialect)
        return msgspec.structs.replace(attempt, dialect=dialect, endpoint=served, facts=facts, delay=0.0)

    def _new_attempts(self, model: str, endpoint: Endpoint) -> list[Attempt]:
        needs = model_facts(model, self._row.dialect).needs_responses and endpoint != "chat/completions"
        dialect, served = endpoint_for(
            self._row.dialect,
            endpoint,
            serves=self._serves,
            prefers="responses" if needs or self._quirks.conversations == "responses" else None,
        )
        found = model_facts(model, dialect)
        return [
            Attempt(
                provider=self.name,
                model=model,
                dialect=dialect,
                endpoint=served,
                key=i,
                account=account,
                quirks=self._quirks,
                facts=found,
                otel_name=self._row.otel_name,
            )
            for i, account in enumerate(self._accounts)
        ]

    async def open(
        self,
        raw_request: RawRequest,
        attempt: Attempt,
        body: bytes,
        *,
        trace: bytes = b"",
        begun: UpstreamConnection | None = None,
    ) -> UpstreamResponse:
        """`begun` is the connection on which `PreparedPost` has sent this request."""
        where = _start_of(raw_request, attempt)
        start = self._starts.get(where)
        signature = b""
        if self._has_own_body:
            body = await self._own_body(body, stream=raw_request.stream)
        if start is None:
            start, signature = await self._new_start(raw_request, attempt, body)
            if isinstance(self.signers[attempt.key], StaticKey) and len(start) <= START_SIZE:
                if len(self._starts) >= STARTS:
                    self._starts.clear()
                self._starts[where] = start
        reply = await self._post(with_lines(start, trace) if trace else start, body, begun)
        if reply.status < 300:
            return decoded(reply, provider=self.name)
        if reply.status in REFUSES_KEY and signature and await self.signers[attempt.key].renew(signature):
            reply.close()
            start, _ = await self._new_start(raw_request, attempt, body)
            reply = await self._post(with_lines(start, trace) if trace else start, body)
            if reply.status < 300:
                return decoded(reply, provider=self.name)
        raise await self._refusal(reply, attempt.dialect)

    def prepared(self, raw_request: RawRequest, attempt: Attempt) -> PreparedPost | None:
        """A request like one that was sent, without its body; None where its head or its body
        depends on more than the config and the request.
        """
        start = self._starts.get(_start_of(raw_request, attempt))
        if start is None or self._has_own_body:
            return None
        return PreparedPost(self, self._client, self._origin, start, self._timeouts)

    async def _post(self, start: bytes, body: bytes, begun: UpstreamConnection | None = None) -> HttpResponse:
        try:
            return await self._client.post(self._origin, start, body, timeouts=self._timeouts, begun=begun)
        except SendError as error:
            raise map_send_error(self.name, error) from None

    async def _own_body(self, body: bytes, *, stream: bool) -> bytes:
        """The body in the form of this service, with the members that its owner added."""
        if is_large(body):
            return await asyncio.to_thread(self._in_own_form, body, stream=stream)
        return self._in_own_form(body, stream=stream)

    def _in_own_form(self, body: bytes, *, stream: bool) -> bytes:
        if self._row.body:
            body = vertex_body(body, version=self._api_version or VERTEX_VERSION)
        if self._added:
            left_out = () if stream else self._row.added_to_streams
            body = with_added(body, self._added, left_out=left_out)
        return body

    async def _new_start(self, raw_request: RawRequest, attempt: Attempt, body: bytes) -> tuple[bytes, bytes]:
        """The head of a signed request up to its content-length, and the lines of the signature."""
        target = request_head.target(
            self._row,
            base_path=self._path,
            endpoint=attempt.endpoint,
            model=attempt.model,
            stream=raw_request.stream,
            api_version=self._api_version,
        )
        headers = self._headers_for(raw_request, attempt)
        request = UpstreamRequest(b"POST", self._origin.authority, target, headers, body)
        signature = await self.signers[attempt.key].sign(request)
        start = self._client.post_start(self._origin, target=target, headers=headers + signature)
        return start, signature

    def _headers_for(self, raw_request: RawRequest, attempt: Attempt) -> bytes:
        """The header lines. The client's own version headers replace ours where the provider speaks
        the client's dialect.
        """
        lines = self._headers
        if raw_request.headers and attempt.dialect == raw_request.dialect:
            given = {name for name, _ in raw_request.headers}
            ours = [line for line in lines.split(b"\r\n") if line and line.partition(b":")[0] not in given]
            lines = b"".join(
                line + b"\r\n" for line in (*ours, *(b"%b: %b" % header for header in raw_request.headers))
            )
        return lines + b"content-type: " + raw_request.content_type.encode("latin-1") + b"\r\n"

    async def _refusal(self, reply: HttpResponse, dialect: str) -> ModelplexError:
        from email.utils import formatdate  # takes 1 MB, and no refusal has come yet

        try:
            body = await decoded(reply, provider=self.name).body(limit=MAX_ERROR_BODY)
        except (SendError, UpstreamEncoded):  # the status is enough
            body = b""
        finally:
            reply.close()
        hide = self._mask
        masked = [(name, hide(value)) for name, value in reply.headers]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in masked}
        # What a date in retry-after is counted from (RFC 9110 10.2.3).
        headers.setdefault("date", formatdate(self._clock(), usegmt=True))
        error = provider_dialect(dialect).read_error(reply.status, headers, hide(body.removeprefix(BOM)))
        error.upstream = msgspec.structs.replace(error.upstream, headers=tuple(forwarded_headers(masked)))
        return error

    async def _list(self, target: bytes, signature: bytes) -> HttpResponse:
        return await self._client.send(
            self._origin,
            method=b"GET",
            target=target,
            headers=self._headers + signature,
            timeouts=LISTING_TIMEOUTS,
        )

    def hide(self, text: bytes) -> bytes:
        return self._own_address.sub(PROVIDER, self._mask(text))

    def _mask(self, text: bytes) -> bytes:
        """Without the keys of the config, and without those in use now."""
        text = self._secrets.mask(text)
        now = [value for signer in self.signers for value in signer.secrets]
        return Secrets(now).mask(text) if now else text

    async def models(self) -> list[ListedModel]:
        target = request_head.models_target(self._row, base_path=self._path, api_version=self._api_version)
        request = UpstreamRequest(b"GET", self._origin.authority, target, self._headers)
        signer = self.signers[0]
        try:
            signature = await signer.sign(request)
            reply = await self._list(target, signature)
            if reply.status in REFUSES_KEY and await signer.renew(signature):
                reply.close()
                reply = await self._list(target, await signer.sign(request))
            if reply.status >= 300:
                raise await self._refusal(reply, self._row.dialect)
            try:
                body = await decoded(reply, provider=self.name).body(limit=MAX_LISTING)
            finally:
                reply.close()
        except SendError as error:
            raise map_send_error(self.name, error) from None
        found = provider_dialect(self._row.dialect).read_models(body.removeprefix(BOM))
        prefix = self._row.models_prefix
        return (
            [ListedModel(model.id.removeprefix(prefix), model.created) for model in found]
            if prefix
            else found
        )


def with_lines(start: bytes, lines: bytes) -> bytes:
    """The beginning of a head with further header lines, after the request line."""
    line, _, rest = start.partition(b"\r\n")
    return b"%b\r\n%b%b" % (line, lines, rest)


class PreparedPost(msgspec.Struct, frozen=True):
    """What all requests of one kind to a provider have in common: arguments of
    `HttpClient.post_at_once`.
    """

    upstream: HttpUpstream
    client: HttpClient
    origin: Origin
    start: bytes
    timeouts: Timeouts


class ReceivedHeaders(NamedTuple):
    """What is read of the headers of a response: those that are passed on, the provider's id of the
    request, and whether the body is encoded.
    """

    forwarded: tuple[tuple[bytes, bytes], ...]
    request_id: str | None
    is_encoded: bool


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> ReceivedHeaders:
    forwarded: list[tuple[bytes, bytes]] = []
    ids: dict[bytes, bytes] = {}
    is_encoded = False
    for name, value in headers:
        ours = _forwarded_as(name)
        if ours is not None:
            forwarded.append((ours, value))
            if name in UPSTREAM_ID:
                ids.setdefault(name, value)
        elif name == b"content-encoding":
            is_encoded = True
    found = ids.get(b"x-request-id") or ids.get(b"request-id") if ids else None
    return ReceivedHeaders(tuple(forwarded), None if found is None else found.decode("latin-1"), is_encoded)


def _start_of(raw_request: RawRequest, attempt: Attempt) -> _Start:
    given = raw_request.headers if attempt.dialect == raw_request.dialect else ()
    return (
        attempt.endpoint,
        attempt.model,
        attempt.key,
        raw_request.stream,
        raw_request.content_type,
        given,
    )


def forwarded_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a provider's response that are passed on: its limits, and its request id."""
    return [(ours, value) for name, value in headers if (ours := _forwarded_as(name)) is not None]


@lru_cache(maxsize=1024)
def _forwarded_as(name: bytes) -> bytes | None:
    """Our name of a header that is passed on."""
    if name in FORWARDED or name.startswith(FORWARDED_PREFIXES):
        return name
    return b"x-modelplex-upstream-request-id" if name in UPSTREAM_ID else None


def map_send_error(provider: str, error: SendError) -> ModelplexError:
    """The HTTP client's error as ours: the provider is at fault, and another may do better."""
    is_timeout = isinstance(error, TimedOut)
    sentence = _NAME.sub("The name of the provider could", error.sentence)
    mapped = (UpstreamTimeout if is_timeout else UpstreamBroken)(f"{provider}: {sentence}")
    if isinstance(error, ConnectFailed) or (isinstance(error, TimedOut) and error.phase == "connect"):
        mapped.signal = "unsent"
    elif isinstance(error, ResponseTooLarge):
        mapped.signal = "none"  # the caller requested that much
    return mapped


_NAME = re.compile(r"^The name \S+ could")


def _served(config: ProviderConfig, row: ProviderSpec) -> tuple[Endpoint, ...]:
    """The endpoints of a provider: those that the config names, or those of its type."""
    further = () if config.base_url == row.base_url else row.serves_elsewhere
    served = config.endpoints or (*row.serves, *further)
    return tuple(each for each in served if each not in config.lacks)


def _address_of(origin: Origin) -> re.Pattern[bytes]:
    """Matches the provider's address in every form in which an error may name it. A host without a
    dot is also a word, so it matches beside a port or a scheme only.
    """
    if origin.unix is not None:
        return re.compile(rb"(?:the socket )?%b" % re.escape(origin.unix).encode())
    host = re.escape(f"[{origin.host}]" if ":" in origin.host else origin.host).encode()
    if "." in origin.host or ":" in origin.host:
        return re.compile(rb"(?:https?://)?(?<![\w.-])%b(?::\d{1,5})?(?![\w-])" % host, re.IGNORECASE)
    return re.compile(
        rb"https?://%b(?::\d{1,5})?(?![\w.-])|(?<![\w.-])%b:\d{1,5}(?!\w)" % (host, host), re.IGNORECASE
    )


def _signers(
    config: ProviderConfig,
    row: ProviderSpec,
    client: HttpClient,
    *,
    extra: Mapping[str, str],
    clock: Callable[[], float],
    commands: tuple[Callable[[str], None], RunCommand | None],
) -> list[tuple[Signer, str]]:
    """The signers of a provider, with their accounts. `commands` has what reports one that failed,
    and what runs one.
    """
    if config.auth is None and all(isinstance(key, Secret) for key in config.api_key):
        keys: list[str | None] = [key.reveal() for key in config.api_key if isinstance(key, Secret)]
        return [
            (StaticKey(request_head.credential(row, key=key, extra=extra)), account(key or ""))
            for key in keys or [None]
        ]
    from modelplex.credentials.provider_signers import Credentials  # most configs need none

    failed, run = commands
    return Credentials(client, os.environ, clock=clock, failed=failed, run=run).signers(config, row)
