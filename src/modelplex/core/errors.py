"""All errors, as one tree. An error has the party at fault, the HTTP status, and whether another
candidate may do better.

    ModelplexError
      ClientError            the caller's; other providers would refuse it too, except Unsupported
        BadRequest      400  the body or a parameter is wrong, or the context is too long
        Unsupported     400  the provider of this model cannot express the request
        Unauthorized    401  an /_internal/ token is missing or wrong
        UnknownModel    404  code model_not_found
        NotFound        404  no such path
        MethodNotAllowed 405
        Conflict        409  what is asked for contradicts what is there
        UpgradeRefused  426  a WebSocket; clients that also have HTTP switch to it at once
        RequestTimeout  408  the body arrived too slowly
        TooLarge        413
        Misdirected     421  a Host that this listener does not serve
        ReplayMiss      400  a request that was not recorded
      PolicyDenied      403  refused by policy; never retried
        OperatorStopped      ended from the page
        BudgetExceeded  402  an agent's budget is used up
      AgentLimited      429  an agent is above its rate limit
      ProviderError          the provider's; another candidate may do better
        UpstreamAuth    502  it rejected the gateway's key: the next key or provider is tried.
                             Never 401, on which agents ask for a login
        RateLimited     429
          QuotaExceeded     an account's usage limit; waiting a moment does not help
        Overloaded      503  it is at capacity
        CircuitOpen     429  every candidate asked clients to wait, so none was tried
        UpstreamBroken  502  it could not be reached, broke off, or sent no valid response
          UpstreamEncoded    its content encoding is not decoded here
        UpstreamTimeout 504  nothing arrived in time
      GatewayFault      500  the gateway's own
        StatePinned     503  the request has state that only one provider can read, and that one is
                             not available
        RecordingUnreadable  a recording of the config cannot be read
        Busy            503  the gateway has no room for another request
        LimitsUnavailable 503  the limits of the agent cannot be checked
        Stopping        503  the gateway is shutting down
        NotReady        503  requests should not come now: /health/ready
      ClientClosed      499  the caller disconnected; only the Record shows it

Dialects write errors in their own formats (`write_error`). Imports nothing of Modelplex.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeVar

import msgspec

Blame = Literal["client", "policy", "provider", "gateway"]
E = TypeVar("E", bound=BaseException)
OVERFLOW = "context_length_exceeded"
"""The code of a BadRequest whose conversation does not fit the model's context window."""


class UpstreamReply(msgspec.Struct, frozen=True, gc=False):
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
    """`message` is one or two sentences for a person: what is wrong, where, and what would be
    right.

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
    """Whether a retry with the same candidate may succeed."""
    signal: Literal["by_kind", "none", "unsent"] = "by_kind"
    """The provider's health by this error: by its class; nothing, since the request caused it; or
    that there was no connection, which no request can cause.
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

    A traceback holds frames with their local variables, the request's body among them. A frame that
    keeps the error makes a cycle, and the body stays in memory until the cycle collector runs. So
    an error that is kept beyond its `except` block is detached first.
    """
    todo: list[BaseException] = [error]
    while todo:
        each = todo.pop()
        todo += [linked for linked in (each.__cause__, each.__context__) if linked is not None]
        # Cleared before the next is read, so that circular causes end.
        each.__traceback__ = each.__cause__ = each.__context__ = None
    return error


class ClientError(ModelplexError):
    blame = "client"
    default_status = 400
    default_type = "invalid_request_error"
    default_code: ClassVar[str | None] = None


class BadRequest(ClientError):
    """The request is invalid."""


class Unsupported(ClientError):
    """The request is valid, but the provider of this model cannot express it."""

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


class Conflict(ClientError):
    default_status = 409
    default_code = "conflict"


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


class ReplayMiss(ClientError):
    """No recorded call has this request. A repetition would miss again: 400, which client libraries
    do not repeat.
    """

    default_code = "replay_miss"
    sdk_may_retry = False


class PolicyDenied(ModelplexError):
    blame = "policy"
    default_status = 403
    default_type = "policy_denied"
    default_code = "policy_denied"
    sdk_may_retry = False
    rule: str = ""
    """Of the sealed policy, where one refuses."""


class OperatorStopped(PolicyDenied):
    """The operator ended this request. A library that repeated it would undo that."""

    default_code = "stopped_by_operator"


class BudgetExceeded(PolicyDenied):
    """402: client libraries repeat a 429, and waiting a second does not help; on a 403 Claude Code
    says "Failed to authenticate".
    """

    default_status = 402
    default_type = "billing_error"
    default_code = "agent_budget_exceeded"


class AgentLimited(ModelplexError):
    """The gateway's own limit: no other candidate would do better. `retry_after` is exact."""

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


class QuotaExceeded(RateLimited):
    """The account's usage limit of a day, a week or a plan. Its next key or the next provider is
    tried; `retry_after` is until the limit is reset, where the provider tells.
    """

    default_type = "insufficient_quota"
    default_code = "insufficient_quota"
    again_may_do_better = False
    sdk_may_retry = False


class Overloaded(ProviderError):
    default_status = 503
    default_type = "overloaded"
    default_code = "overloaded"


class CircuitOpen(ProviderError):
    """No provider was tried: each asked this caller to wait. `retry_after` is the rest of that
    time.
    """

    default_status = 429
    default_type = "rate_limit_exceeded"
    default_code = "circuit_open"


class UpstreamBroken(ProviderError):
    """Reset, refused, cut, redirected, wrong content type, half a JSON, an empty stream, an error
    inside a 200.
    """


class UpstreamEncoded(UpstreamBroken):
    """The response is compressed in a form that is not decoded, against the request."""

    again_may_do_better = False


class UpstreamTimeout(ProviderError):
    default_status = 504
    again_may_do_better = False
    default_code = "upstream_timeout"


class GatewayFault(ModelplexError):
    """A fault of the gateway. The log has the details; the client gets the request id."""


class InternalFault(GatewayFault):
    """An exception that nobody expected: a defect of the gateway."""

    again_may_do_better = False
    sdk_may_retry = False

    def __init__(self, message: str = "The gateway failed on this request; its log has the details.") -> None:
        super().__init__(message)


class StatePinned(GatewayFault):
    default_status = 503
    default_code = "state_pinned"
    sdk_may_retry = False


class RecordingUnreadable(GatewayFault):
    """What a provider of the type "replay" answers from cannot be read."""

    default_code = "recording_unreadable"
    sdk_may_retry = False


class Busy(GatewayFault):
    """A limit of the gateway is reached, and not by this caller alone."""

    default_status = 503
    default_type = "overloaded"
    default_code = "gateway_busy"


class LimitsUnavailable(GatewayFault):
    """The engine of [shared] does not answer, so that the limits of the agent cannot be checked."""

    default_status = 503
    default_type = "overloaded"
    default_code = "shared_limits_unavailable"


class Stopping(GatewayFault):
    default_status = 503
    default_code = "shutting_down"


class NotReady(GatewayFault):
    default_status = 503
    default_code = "not_ready"


class ClientClosed(ModelplexError):
    blame = "client"
    default_status = 499
    default_type = "client_closed"
    default_code = "client_closed"


def without_name(sentence: str, name: str) -> str:
    """The sentence for a line that names the provider or the tool server already. Sentences for
    clients name it.
    """
    for before in (f"{name}: ", f"The tool server {name} "):
        if name and sentence.startswith(before):
            return sentence.removeprefix(before)
    return sentence
