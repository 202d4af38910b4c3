"""The files of the page, and the headers of everything that it sends.

What agents and models say is hostile text. The policy allows no inline script and no style sheet
from elsewhere, and `require-trusted-types-for` makes the browser refuse every way from a string to
HTML or a script; no module of the page needs one.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from modelplex.dashboard.request import Headers

FOLDER = Path(__file__).with_name("static")
TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'; trusted-types 'none'"
)
COMMON: Headers = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not "no-referrer": with that, browsers send `Origin: null` with the sign-in form.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
FRESH: Headers = [*COMMON, (b"cache-control", b"no-store")]


class Asset:
    """One file. `tag` changes with its bytes."""

    __slots__ = ("body", "tag", "type")

    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        self.type = TYPES[path.suffix]
        self.tag = sha256(self.body).hexdigest()[:16]

    def headers(self) -> Headers:
        # The browser asks each time and gets a 304: an upgraded gateway has another page.
        return [
            *COMMON,
            (b"content-type", self.type),
            (b"cache-control", b"no-cache"),
            (b"etag", f'"{self.tag}"'.encode()),
        ]


def find(name: str) -> Asset | None:
    """The file of this name in the package; read anew, since few ask and none should stay in
    memory.
    """
    names = {path.name: path for path in FOLDER.iterdir() if path.suffix in TYPES}
    return Asset(names[name]) if name in names else None
