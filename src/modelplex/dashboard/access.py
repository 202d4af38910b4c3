"""The cookie that stands for a token, and requests that other pages caused. PURE.

As Jupyter does it (https://jupyter-server.readthedocs.io/en/latest/operators/security.html): a link
with the token is printed at the start, and opening it sets a cookie. The cookie is derived from the
token, so that it outlives a restart with the same token, ends with the token, and has no other
rights. Which tokens there are is the server's business.

A cookie is sent to every port of a host, and `SameSite` does not know ports. So a request that
another origin caused is refused by its headers, and a change needs to prove that it comes from this
page.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from hmac import new
from urllib.parse import urlsplit

from modelplex.core.errors import PolicyDenied

COOKIE = "modelplex_page"
MAX_AGE = 30 * 24 * 3600
"""Seconds that a browser keeps the cookie."""
BEARER = "bearer "
MAX_COOKIES = 4
"""Of our name that are looked at."""


def cookie_of(token: str) -> str:
    """The value of the cookie for this token. It does not tell the token."""
    return new(token.encode(), b"modelplex page cookie", sha256).hexdigest()


def cookie_header(token: str) -> bytes:
    """The value of `set-cookie`. Without `Secure`: the page is served over HTTP on this machine."""
    return f"{COOKIE}={cookie_of(token)}; Path=/_internal/; Max-Age={MAX_AGE}; HttpOnly; SameSite=Strict".encode()


def bearer_of(headers: Mapping[str, str]) -> str:
    """The token in `authorization`; "" for none."""
    given = headers.get("authorization", "")
    return given[len(BEARER) :].strip() if given[: len(BEARER)].lower() == BEARER else ""


def cookies_of(headers: Mapping[str, str]) -> list[str]:
    """The values of our cookie. Another path of this host may have set one of its name."""
    pairs = (each.strip().partition("=") for each in headers.get("cookie", "").split(";"))
    return [value for name, _, value in pairs if name == COOKIE and value][:MAX_COOKIES]


def check_own_page(headers: Mapping[str, str]) -> None:
    """Raises PolicyDenied for a request that a page of another origin caused."""
    site = headers.get("sec-fetch-site")
    if site not in {None, "same-origin", "none"} and headers.get("sec-fetch-mode") != "navigate":
        raise _foreign()
    origin = headers.get("origin")
    if origin is not None and not is_own_origin(origin, headers.get("host")):
        raise _foreign()


def check_change(headers: Mapping[str, str], *, by_cookie: bool) -> None:
    """Raises PolicyDenied. With a cookie the origin must be this page's; a program that sends the
    token itself has none.
    """
    check_own_page(headers)
    if by_cookie and "origin" not in headers:
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


def _foreign() -> PolicyDenied:
    return PolicyDenied("Policy: another page may not use this one.", code="origin_not_allowed")
