"""Removes error pages and addresses from a provider's error message.

Proxies and load balancers answer with HTML pages and with the addresses that they tried. Neither
helps a client, and an agent without a network learns no address. Imports nothing of Modelplex.
"""

from __future__ import annotations

import re

QUOTED = 500
"""Characters of a provider's text in a message: enough for a sentence, too few for a page."""
PAGE_MARK = "(a page, not JSON)"
ADDRESS_MARK = "(an address)"
_MARKUP = r"<(?:!doctype|\?xml|html|head|body|title|style|script|center|h1)\b"
_PAGE = re.compile(_MARKUP, re.IGNORECASE)
_PAGE_TO_THE_END = re.compile(_MARKUP + r".*", re.IGNORECASE | re.DOTALL)
_PAGE_IN_JSON = re.compile(rb"(?:<|\\u003c)(?:!doctype|\?xml|html|head|body|title|style|script|center|h1)\b(?:[^\"\\]|\\.)*", re.IGNORECASE | re.DOTALL)  # fmt: skip
_PRIVATE = r"(?:internal|intranet|local|localdomain|lan|corp|cluster|svc)"
"""Last labels of private host names."""
_ADDRESS = re.compile(
    r"(?:https?|wss?|tcp|grpc|unix)://[^\s\"'<>\\)]*"
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]\d)(?::\d{1,5})?(?:'?,\s*\d{1,5}\b)?"
    r"|(?<![\w:])(?=[0-9a-f:.\[]{0,45}\d)\[?[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){0,8}::[0-9a-f:.]{0,45}\]?(?::\d{1,5})?(?:'?,\s*\d{1,5}\b)?(?!\w)"
    r"|(?<![\w.-])(?:[a-z0-9_-]+\.)+[a-z]{2,}:\d{2,5}\b"
    r"|(?<![\w.-])[a-z][a-z0-9_-]*:\d{4,5}\b"
    rf"|(?<![\w.-])(?:[a-z0-9_-]+\.)+{_PRIVATE}(?![\w-])"
    r"|(?<![\w.-])localhost\b(?::\d+)?(?:'?,\s*\d{1,5}\b)?",
    re.IGNORECASE,
)
_ADDRESS_IN_BYTES = re.compile(_ADDRESS.pattern.encode(), re.IGNORECASE)
_PUBLIC = re.compile(
    rf"https?://(?:[a-z0-9-]+\.)+(?!{_PRIVATE}(?![\w-]))[a-z]{{2,}}(?=[/?#.,;]|$)", re.IGNORECASE
)
"""A public page, such as for raising a limit: a name with a dot, and no port."""


def is_page(text: str) -> bool:
    return _PAGE.search(text) is not None


def quotable_text(status: int, body: bytes) -> str:
    """The quotable text of a body that is not JSON: a short line with a status below 500, as some
    servers send ("missing field `model`"). Nothing of a proxy's page.
    """
    text = body[: 4 * QUOTED].decode("utf-8", "replace").strip()
    if not text:
        return ""
    if status >= 500 or len(text) > QUOTED or is_page(text) or not text.replace("\n", " ").isprintable():
        return PAGE_MARK
    return text


def without_page(text: str) -> str:
    """The text up to an HTML page in it, which routers quote."""
    return _PAGE_TO_THE_END.sub(PAGE_MARK, text)


def without_addresses(text: str) -> str:
    """The text without URLs, IP addresses and host:port; public pages stay."""
    return _ADDRESS.sub(lambda found: found[0] if _PUBLIC.match(found[0]) else ADDRESS_MARK, text)


def error_without_page(data: bytes) -> bytes:
    """`without_page` of an error's JSON."""
    return _PAGE_IN_JSON.sub(PAGE_MARK.encode(), data)


def error_without_addresses(data: bytes) -> bytes:
    def address(found: re.Match[bytes]) -> bytes:
        return found[0] if _PUBLIC.match(found[0].decode("utf-8", "replace")) else ADDRESS_MARK.encode()

    return _ADDRESS_IN_BYTES.sub(address, data)
