"""A browser for tests: opens an address, follows redirects, keeps cookies, and fills in each form
that it is shown, until a page has none.

`python browser.py ADDRESS [USER]`. It is what $BROWSER names while `modelplex mcp login` runs.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

NOBODY = "nobody"
"""Refuses: a user for whom the authorization server answers so at once."""
PAGES = 12
"""More than any sign-in has."""


class Form(HTMLParser):
    """The first form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._over = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form" and self.action is None:
            self.action = found.get("action") or ""
        elif tag == "input" and self.action is not None and not self._over and found.get("name"):
            self.fields[str(found["name"])] = found.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._over = self._over or (tag == "form" and self.action is not None)


def browse(address: str, user: str) -> str:
    """The text of the last page."""
    if user == NOBODY:
        parts = urlsplit(address)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        iss = f"{parts.scheme}://{parts.netloc}"
        answer = {"error": "access_denied", "state": asked["state"], "iss": iss}
        address = f"{asked['redirect_uri']}?{urlencode(answer)}"
    # A cookie of a loopback address with a port is one of this host.
    jar = CookieJar(DefaultCookiePolicy(strict_domain=False))
    opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(jar))
    response = opener.open(address, timeout=30)
    for _ in range(PAGES):
        text = str(response.read().decode())
        form = Form()
        form.feed(text)
        if form.action is None:
            return text
        fields = form.fields | dict.fromkeys({"login", "password"} & set(form.fields), user)
        response = opener.open(urljoin(response.url, form.action), urlencode(fields).encode(), timeout=30)
    raise AssertionError("too many pages")


if __name__ == "__main__":
    browse(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "owner")
