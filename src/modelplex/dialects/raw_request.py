"""Reads the top level of a body into a RawRequest, and writes it again with members changed.

Only the members that the gateway acts on are decoded (`model`, `stream`, `stream_options`). Every
other value keeps its bytes: no number is reformatted, no key reordered, nothing unknown lost.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.core.request import Attempt, Change, Endpoint, RawRequest
from modelplex.dialects.core.bounds import SHORT, SHORTEST_MEMBER, check_lists, check_values
from modelplex.dialects.core.multipart import find_model
from modelplex.dialects.core.surrogates import REPLACEMENT, mended
from modelplex.dialects.registry import DIALECTS

FORM = "multipart/form-data"
PRICED = {"service_tier": "service_tier", "serviceTier": "service_tier", "speed": "speed"}
"""Members that change the price of a request, and their names in price lists."""
_TRUE, _FALSE, _NULL = b"true", b"false", b"null"
decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_str = msgspec.json.Decoder(str).decode


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


_decode_options = msgspec.json.Decoder(_StreamOptions | None).decode
_encode = msgspec.json.Encoder().encode


Headers = tuple[tuple[bytes, bytes], ...]


def read_form(
    body: bytes, *, endpoint: Endpoint, dialect: str, content_type: str, headers: Headers = ()
) -> RawRequest:
    """A multipart form, of which only `model` is read. Raises BadRequest."""
    start, end = find_model(body, content_type)
    try:
        model = body[start:end].decode()
    except UnicodeDecodeError:
        raise BadRequest("'model' is not valid UTF-8.", param="model") from None
    return RawRequest(
        endpoint=endpoint,
        dialect=dialect,
        model=model,
        body=body,
        fields={},
        content_type=content_type,
        headers=headers,
    )


def read_request(
    body: bytes,
    *,
    endpoint: Endpoint,
    dialect: str,
    model: str | None = None,
    stream: bool | None = None,
    headers: Headers = (),
) -> RawRequest:
    """A JSON body's top level. Raises BadRequest that says where the JSON breaks, or which member
    is missing or of the wrong type.

    `model` and `stream` are given where the path has them, and not the body. `headers` are those
    that belong to the dialect.
    """
    facts = DIALECTS[dialect]
    is_short = len(body) <= SHORT
    if not is_short:
        check_values(body)
    changes: tuple[Change, ...] = ()
    try:
        fields = decode_fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        given, body = body, mended(body)
        fields = _fields_of(body)
        changes = _mended(fields) if body is not given else ()
        if any(change.path == "model" for change in changes):
            raise BadRequest("'model' must be a string, in UTF-8.", param="model") from None
    if not is_short:
        check_lists(fields, body, limits=facts.lists)
    if stream is None:
        stream = facts.stream != "never" and _streamed(fields, by_default=facts.stream == "by_default")
    return RawRequest(
        endpoint=endpoint,
        dialect=dialect,
        model=_model(fields) if model is None else model,
        body=body,
        fields=fields,
        stream=stream,
        include_usage=stream and facts.usage_on_request and _wants_usage(fields),
        headers=headers,
        mended=changes,
    )


def _fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return decode_fields(body)
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not a JSON object: {error}.") from None
    except UnicodeDecodeError:
        raise BadRequest("The body is not valid UTF-8.") from None


def _mended(fields: Mapping[str, msgspec.Raw]) -> tuple[Change, ...]:
    """The members in which characters were replaced."""
    return tuple(
        Change("lower", name, "half of a surrogate pair is no character: sent as U+FFFD")
        for name, value in fields.items()
        if REPLACEMENT in bytes(value)
    )


def _model(fields: Mapping[str, msgspec.Raw]) -> str:
    model = fields.get("model")
    if model is None:
        raise BadRequest("The body has no 'model': name one of GET /models/v1/models.", param="model")
    try:
        return _decode_str(model)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("'model' must be a string, in UTF-8.", param="model") from None


def _streamed(fields: Mapping[str, msgspec.Raw], *, by_default: bool) -> bool:
    stream = fields.get("stream")
    if stream is None:
        return by_default
    value = bytes(stream)
    if value not in (_TRUE, _FALSE, _NULL):
        raise BadRequest("'stream' must be true or false.", param="stream")
    return value == _TRUE


def _wants_usage(fields: Mapping[str, msgspec.Raw]) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    try:
        read = _decode_options(options)
        if read is not None:
            decode_fields(options)  # it may have to be written anew
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest(
            "'stream_options' must be an object with a boolean 'include_usage'.", param="stream_options"
        ) from None
    return read is not None and read.include_usage is True


def amend_body(raw_request: RawRequest, attempt: Attempt) -> tuple[tuple[Change, ...], bytes, bool]:
    """Changes, the body with the members changed that must be, every other value's bytes the same,
    and whether the gateway asked for usage.
    """
    if raw_request.content_type.startswith(FORM):
        return (), _form_with_model(raw_request, attempt.model), False
    dialect = DIALECTS[raw_request.dialect]
    changed: dict[str, msgspec.Raw | None] = {}
    changes: tuple[Change, ...] = ()
    if (
        not dialect.form.model_in_path
        and attempt.model != raw_request.model
        and "model" in raw_request.fields
    ):
        changed["model"] = msgspec.Raw(_encode(attempt.model))
    asks_usage = (
        raw_request.stream
        and not raw_request.include_usage
        and attempt.quirks.stream_usage
        and dialect.usage_on_request
    )
    if asks_usage:
        changed["stream_options"] = _with_usage(raw_request.fields.get("stream_options"))
    if dialect.amend is not None and (more := dialect.amend(raw_request, attempt)) is not None:
        changed |= more.members
        changes = more.changes
    if not changed and (raw_request.judged or not may_repeat(raw_request.body, raw_request.fields)):
        return changes, raw_request.body, asks_usage
    fields = {**raw_request.fields, **changed}
    return changes, _encode({name: value for name, value in fields.items() if value is not None}), asks_usage


def may_repeat(body: bytes, fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether the body may hold a member twice. Modelplex reads the last of them and some servers
    the first, so such a body never passes unchanged: the provider could serve what was not judged.
    It makes the body longer than what was decoded of it by SHORTEST_MEMBER at least. A body that is
    longer for its spaces alone is written anew as well, which costs a copy.
    """
    read = 1 + sum(map(len, fields)) + sum(map(len, fields.values())) + 4 * len(fields)
    return len(body) - read >= SHORTEST_MEMBER


def _form_with_model(raw_request: RawRequest, model: str) -> bytes:
    if model == raw_request.model:
        return raw_request.body
    start, end = find_model(raw_request.body, raw_request.content_type)
    return b"".join((raw_request.body[:start], model.encode(), raw_request.body[end:]))


def _with_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None or bytes(options) == _NULL:
        return msgspec.Raw(b'{"include_usage":true}')
    return msgspec.Raw(_encode({**decode_fields(options), "include_usage": msgspec.Raw(_TRUE)}))


def price_dimensions(raw_request: RawRequest) -> dict[str, str]:
    """The members of the request that change its price, by their names in price lists."""
    found: dict[str, str] = {}
    for member, name in PRICED.items():
        raw = raw_request.fields.get(member)
        if raw is not None and bytes(raw).startswith(b'"'):
            try:
                found[name] = msgspec.json.decode(raw, type=str)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
    return found
