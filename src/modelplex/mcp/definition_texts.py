"""Keeps the text of approved definitions, by their hash, so that a change can be shown beside what
was approved. Approvals themselves are hashes (`lockfile`).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = "mcp-definitions"
"""Below the state folder."""
MOST: Final = 10_000
"""Texts in the folder, above which no more are kept: a server lists hundreds, of a few KB each."""
LARGEST: Final = 262_144
"""Bytes of one text. A server may send more; then only its hash is known later."""
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")


def keep_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Add these texts, by hash. Those that are there stay. Raises OSError."""
    place = folder / FOLDER
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = set(os.listdir(place))  # noqa: PTH208 - names alone
    for hashed, text in texts.items():
        name = _name(hashed)
        content = text.encode(errors="surrogatepass")
        if name is None or name in known or len(known) >= MOST or len(content) > LARGEST:
            continue
        draft = place / f".{secrets.token_hex(8)}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(content)
        draft.replace(place / name)
        known.add(name)


def read_texts(folder: Path, hashes: Iterable[str]) -> dict[str, str]:
    """The texts of these hashes, as far as they were kept."""
    found: dict[str, str] = {}
    for hashed in hashes:
        name = _name(hashed)
        if name is not None:
            with contextlib.suppress(OSError):
                content = (folder / FOLDER / name).read_bytes()
                found[hashed] = content.decode(errors="replace")
    return found


def _name(hashed: str) -> str | None:
    found = _HASH.fullmatch(hashed)
    return found[1] if found else None
