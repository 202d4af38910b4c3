"""What can go wrong, as one tree. Each error answers three questions: whose fault, which status, is
another candidate worth trying?

    ModelplexError
      ClientError        the caller's: returned at once, another provider would say the same (but
                         for Unsupported)
        BadRequest         400  the body or a parameter is wrong, or the context is too long
        Unsupported        400  what is asked cannot be said to the provider that serves this model
        Unauthorized       401  an /_internal/ token is missing or wrong
        UnknownModel       404  code model_not_found
        NotFound           404  no such path
        MethodNotAllowed   405
        UpgradeRefused     426  a WebSocket was asked for; clients that have an HTTP form too take
                           it at once
        RequestTimeout     408  the body came too slowly
        TooLarge           413
        Misdirected        421  a Host that this listener does not serve
      PolicyDenied         403  refused here; never retried
        BudgetExceeded       402  an agent's budget is used up
      AgentLimited         429  an agent asks faster than it may
      ProviderError      the provider's: another candidate may do better
        UpstreamAuth       502  it rejected our key; the next key or provider is tried. Never shown
                           as 401: agents would ask for a login
        RateLimited        429
        Overloaded         503  it says that it is busy
        CircuitOpen        429  every candidate said before to come back later, so that nobody was
                           asked
        UpstreamBroken     502  it could not be reached, broke off, or answered with something that
                           is not an answer
          UpstreamEncoded  502  it answered in a coding that is not read here
        UpstreamTimeout    504  nothing came in time
      GatewayFault       500  ours
        StatePinned        503  the request holds state that only one provider can read, and that
                           one is not to be had
        Busy               503  the gateway has no room for another request
        Stopping           503  the gateway is shutting down
      ClientClosed       499  the caller hung up; nobody reads this, the Record does

Pure: an error is a value that knows how it should be answered. Dialects put it into their own words
    (`write_error`).
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeVar

import msgspec

Blame = Literal["client", "policy", "provider", "gateway"]
E = TypeVar("E", bound=BaseException)


class UpstreamReply(msgspec.Struct, frozen=True):
    """An error as the provider answered it: HTTP status, its own names of the error, the body,
    which passes unchanged to a client of the same dialect, and headers about its limits, which are
    passed on.
    """

    status: int | None = None
    type: str | None = None
    code: str | None = None
    body: bytes | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


NO_REPLY = UpstreamReply()


class ModelplexError(Exception):
    """`message` is one or two sentences for the person who reads it: what is wrong, where, what
    would be right.

    status       the HTTP status that the client gets
    code, param  OpenAI's `code`, and the field at fault as a path in the client's body
    retry_after  seconds: the provider's own, or counted by the gateway for an agent; never invented
    upstream     what the provider answered, where it did
    """

    blame: ClassVar[Blame] = "gateway"
    default_status: ClassVar[int] = 500
    default_type: ClassVar[str] = "gateway_error"
    default_code: ClassVar[str | None] = "gateway_error"
    another_may_do_better: ClassVar[bool] = False
    """Whether failover goes on to the next candidate."""
    again_may_do_better: ClassVar[bool] = True
    """Whether the same candidate may do better when it is asked once more."""
    signal: Literal["by_kind", "none", "unsent"] = "by_kind"
    """What it says of the provider's health: what its class says; nothing, since the request
    brought it about; or that no connection came about, which no request can cause.
    """
    sdk_may_retry: ClassVar[bool] = True
    """False adds `x-should-retry: false`, since SDKs would repeat every 5xx and 429."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        upstream: UpstreamReply = NO_REPLY,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.default_status
        self.type = type or self.default_type
        self.code = code if code is not None else self.default_code
        self.param = param
        self.retry_after = retry_after
        self.upstream = upstream

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.code or self.type}: {self.message}>"


def detached(error: E) -> E:
    """The same error without its tracebacks and causes, to be kept as a value.

    A traceback holds the frames that it went through, with their local variables: the request's
    body among them. A frame that keeps the error in turn makes a cycle, and the body then stays in
    memory until the cycle collector runs. Whoever keeps an error beyond the `except` block that
    caught it detaches it first.
    """
    todo: list[BaseException] = [error]
    while todo:
        each = todo.pop()
        todo += [linked for linked in (each.__cause__, each.__context__) if linked is not None]
        # Cleared before the next is looked at, so that causes in a circle come to an end.
        each.__traceback__ = each.__cause__ = each.__context__ = None
    return error


class ClientError(ModelplexError):
    blame = "client"
    default_status = 400
    default_type = "invalid_request_error"
    default_code: ClassVar[str | None] = None


class BadRequest(ClientError):
    """The request is wrong as it stands."""


class Unsupported(ClientError):
    """It is right, but the provider of this model has no words for it."""

    default_code = "unsupported_by_provider"
    another_may_do_better = True


class Unauthorized(ClientError):
    default_status = 401
    default_code = "unauthorized"


class UnknownModel(ClientError):
    default_status = 404
    default_code = "model_not_found"


class NotFound(ClientError):
    default_status = 404
    default_code = "not_found"


class MethodNotAllowed(ClientError):
    default_status = 405
    default_code = "method_not_allowed"


class UpgradeRefused(ClientError):
    default_status = 426
    default_code = "websocket_not_served"


class RequestTimeout(ClientError):
    default_status = 408
    default_code = "request_timeout"


class TooLarge(ClientError):
    default_status = 413
    default_code = "request_too_large"


class Misdirected(ClientError):
    default_status = 421
    default_code = "host_not_served"


class PolicyDenied(ModelplexError):
    blame = "policy"
    default_status = 403
    default_type = "policy_denied"
    default_code = "policy_denied"
    sdk_may_retry = False


class BudgetExceeded(PolicyDenied):
    """402 and not 429, which every client's library repeats: waiting a second does not help. Nor
    403: Claude Code then says "Failed to authenticate".
    """

    default_status = 402
    default_type = "billing_error"
    default_code = "agent_budget_exceeded"


class AgentLimited(ModelplexError):
    """Ours, and no provider's: another candidate would not do better. `retry_after` is exact where
    it is set.
    """

    blame = "policy"
    default_status = 429
    default_type = "rate_limit_exceeded"
    default_code = "agent_rate_limited"


class ProviderError(ModelplexError):
    blame = "provider"
    default_status = 502
    default_type = "upstream_error"
    default_code = "upstream_error"
    another_may_do_better = True


class UpstreamAuth(ProviderError):
    default_code = "upstream_auth"
    again_may_do_better = False
    sdk_may_retry = False


class RateLimited(ProviderError):
    default_status = 429
    default_type = "rate_limit_exceeded"
    default_code = "rate_limit_exceeded"


class Overloaded(ProviderError):
    default_status = 503
    default_type = "overloaded"
    default_code = "overloaded"


class CircuitOpen(ProviderError):
    """Nobody was asked: every candidate's provider told this caller to come back later.
    `retry_after` is what is left of that.
    """

    default_status = 429
    default_type = "rate_limit_exceeded"
    default_code = "circuit_open"


class UpstreamBroken(ProviderError):
    """Reset, refused, cut, redirected, wrong content type, half a JSON, an empty stream, an error
    inside a 200.
    """


class UpstreamEncoded(UpstreamBroken):
    """It compressed its answer in a form that is not read here, though it was asked not to."""

    again_may_do_better = False


class UpstreamTimeout(ProviderError):
    default_status = 504
    again_may_do_better = False
    default_code = "upstream_timeout"


class GatewayFault(ModelplexError):
    """The gateway's own. The log line has the details; the client gets the request id."""


class StatePinned(GatewayFault):
    default_status = 503
    default_code = "state_pinned"
    sdk_may_retry = False


class Busy(GatewayFault):
    """A limit of the gateway's own is reached, and it was not this caller alone who used it up."""

    default_status = 503
    default_type = "overloaded"
    default_code = "gateway_busy"


class Stopping(GatewayFault):
    default_status = 503
    default_code = "shutting_down"


class ClientClosed(ModelplexError):
    blame = "client"
    default_status = 499
    default_type = "client_closed"
    default_code = "client_closed"


def without_name(sentence: str, name: str) -> str:
    """An error's sentence for a line that has named the provider or the tool server already.
    Sentences for clients name it, since a client sees nothing else.
    """
    for before in (f"{name}: ", f"The tool server {name} "):
        if name and sentence.startswith(before):
            return sentence.removeprefix(before)
    return sentence
