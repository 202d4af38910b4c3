"""Who may read the page and change something: a token, afterwards a cookie. PURE.

As Jupyter does it (https://jupyter-server.readthedocs.io/en/latest/operators/security.html): a link
with the token is printed at the start, and opening it sets a cookie. The cookie is derived from the
token, so that it outlives a restart with the same token and ends with the token.

A cookie is sent to every port of a host, and `SameSite` does not know ports. So a request that
another origin caused is refused by its headers, and a change needs to prove that it comes from this
page.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest, new
from urllib.parse import urlsplit

from modelplex.core.errors import PolicyDenied, Unauthorized

COOKIE = "modelplex_page"
MAX_AGE = 30 * 24 * 3600
"""Seconds that a browser keeps the cookie."""
BEARER = "bearer "


def cookie_of(token: str) -> str:
    """The value of the cookie for this token. It does not tell the token."""
    return new(token.encode(), b"modelplex page cookie", sha256).hexdigest()


def cookie_header(token: str) -> bytes:
    """The value of `set-cookie`. Without `Secure`: the page is served over HTTP on this machine."""
    return f"{COOKIE}={cookie_of(token)}; Path=/_internal/; Max-Age={MAX_AGE}; HttpOnly; SameSite=Strict".encode()


def is_token(given: str, token: str) -> bool:
    return compare_digest(given.encode(), token.encode())


def is_signed_in(headers: Mapping[str, str], token: str) -> bool:
    """By the cookie, or by the token in `authorization`."""
    return _has_cookie(headers, token) or _has_bearer(headers, token)


def check_signed_in(headers: Mapping[str, str], token: str) -> None:
    """Raises Unauthorized."""
    if not is_signed_in(headers, token):
        raise Unauthorized(
            "The page needs its token: open the link that the gateway printed when it started, or send "
            "'Authorization: Bearer TOKEN'."
        )


def check_own_page(headers: Mapping[str, str]) -> None:
    """Raises PolicyDenied for a request that a page of another origin caused."""
    site = headers.get("sec-fetch-site")
    if site not in {None, "same-origin", "none"} and headers.get("sec-fetch-mode") != "navigate":
        raise _foreign()
    origin = headers.get("origin")
    if origin is not None and not is_own_origin(origin, headers.get("host")):
        raise _foreign()


def check_change(headers: Mapping[str, str], token: str) -> None:
    """Raises Unauthorized or PolicyDenied. With a cookie the origin must be this page's; a program
    that sends the token itself has none.
    """
    check_signed_in(headers, token)
    check_own_page(headers)
    if "origin" not in headers and not _has_bearer(headers, token):
        raise PolicyDenied(
            "Policy: a change needs an Origin, which every browser sends, or the token in 'Authorization'.",
            code="origin_missing",
        )


def is_own_origin(origin: str, host: str | None) -> bool:
    """Whether an Origin has the host and the port to which the request was sent."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and host is not None and parts.netloc.lower() == host.lower()


def _has_cookie(headers: Mapping[str, str], token: str) -> bool:
    wanted = cookie_of(token)
    for each in headers.get("cookie", "").split(";"):
        name, _, value = each.strip().partition("=")
        if name == COOKIE and compare_digest(value.encode(), wanted.encode()):
            return True
    return False


def _has_bearer(headers: Mapping[str, str], token: str) -> bool:
    given = headers.get("authorization", "")
    return given[: len(BEARER)].lower() == BEARER and is_token(given[len(BEARER) :].strip(), token)


def _foreign() -> PolicyDenied:
    return PolicyDenied("Policy: another page may not use this one.", code="origin_not_allowed")
