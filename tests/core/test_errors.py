"""The tree of errors: defaults, and errors that are kept without their frames."""

from __future__ import annotations

import gc
import weakref

import pytest

from modelplex.core.errors import (
    NO_REPLY,
    BadRequest,
    ModelplexError,
    RateLimited,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamReply,
    detached,
    without_name,
)


def _all_classes(base: type[ModelplexError] = ModelplexError) -> list[type[ModelplexError]]:
    return [base, *(each for child in base.__subclasses__() for each in _all_classes(child))]


@pytest.mark.parametrize("kind", _all_classes())
def test_every_error_has_a_status_and_a_blame(kind: type[ModelplexError]) -> None:
    error = kind("It failed.")
    assert 400 <= error.status < 600
    assert (error.message, error.upstream, str(error)) == ("It failed.", NO_REPLY, "It failed.")
    assert error.blame in {"client", "policy", "provider", "gateway"}
    assert error.another_may_do_better == (
        error.blame == "provider" or error.code == "unsupported_by_provider"
    )


def test_a_rejected_key_is_never_a_401() -> None:
    error = UpstreamAuth("No.", upstream=UpstreamReply(status=401, type="authentication_error"))
    assert (error.status, error.upstream.status) == (502, 401)


def test_what_is_given_replaces_the_defaults_of_the_class() -> None:
    error = BadRequest("No.", status=422, type="odd", code="c", param="messages[0]", retry_after=2.5)
    assert (error.status, error.type, error.code, error.param, error.retry_after) == (
        422,
        "odd",
        "c",
        "messages[0]",
        2.5,
    )
    assert RateLimited("No.", code="").code == "", "an empty code is a code"
    assert repr(error) == "<BadRequest 422 c: No.>"


class _Body:
    """Stands for a request's body in a frame."""


def _raise_with(body: _Body) -> None:
    assert isinstance(body, _Body)
    try:
        raise ValueError("inner")
    except ValueError as error:
        raise UpstreamBroken("outer") from error


def test_a_detached_error_holds_no_frames() -> None:
    body = _Body()
    held = weakref.ref(body)
    with pytest.raises(UpstreamBroken) as raised:
        _raise_with(body)
    kept = detached(raised.value)
    del body, raised
    gc.collect()
    assert held() is None
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)


def test_causes_in_a_circle_come_to_an_end() -> None:
    first, second = UpstreamBroken("a"), UpstreamBroken("b")
    first.__cause__, second.__context__ = second, first
    assert detached(first) is first
    assert second.__context__ is None


def test_a_name_is_left_out_where_the_line_has_it() -> None:
    assert without_name("acme: It broke.", "acme") == "It broke."
    assert without_name("The tool server files is gone.", "files") == "is gone."
    assert without_name("It broke.", "acme") == "It broke."
    assert without_name(": It broke.", "") == ": It broke."
