"""Pages of PyPI's simple API: read, filtered by the allow list, and written again. Pure.

Source: PEP 503 (HTML), PEP 592 (yanked), PEP 658 and 714 (metadata files), PEP 691 (JSON) and
PEP 700 (upload times and sizes).
"""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any, Final, TypeAlias, cast
from urllib.parse import unquote, urldefrag, urljoin

import msgspec

from modelplex.packages.allow_list import AllowList, hashes_of
from modelplex.packages.names import of_file

JSON_TYPE: Final = "application/vnd.pypi.simple.v1+json"
HTML_TYPE: Final = "application/vnd.pypi.simple.v1+html"
TOO_NEW: Final = "it is too new"
AGE_UNKNOWN: Final = "its age is not known"
AGE_REASONS: Final = frozenset({TOO_NEW, AGE_UNKNOWN})
ACCEPT: Final = f"{JSON_TYPE}, {HTML_TYPE};q=0.5, text/html;q=0.1"


class IndexFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a page. `uploaded` is Unix seconds. `metadata` are the hashes of its metadata file;
    empty where it has none, or none with a hash.
    """

    filename: str
    url: str
    hashes: tuple[str, ...] = ()
    requires_python: str | None = None
    yanked: str | bool = False
    uploaded: float | None = None
    size: int | None = None
    metadata: tuple[str, ...] = ()


Address: TypeAlias = Callable[[IndexFile], str]
"""Gives the URL of a file in a page."""


class Withheld(msgspec.Struct, frozen=True):
    """A file that is allowed by name and version, and not served. `reason` is a sentence's end."""

    filename: str
    reason: str


class BrokenPage(ValueError):
    """A page that is not of the simple API."""


def read_page(body: bytes, *, media_type: str, url: str) -> list[IndexFile]:
    """The files of the page at `url`. Raises BrokenPage."""
    if media_type.partition(";")[0].strip().lower() != JSON_TYPE:
        return _read_html(body.decode("utf-8", "replace"), url)
    try:
        files = cast("Sequence[Mapping[str, Any]]", msgspec.json.decode(body)["files"])
        return [_from_json(each, url) for each in files]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BrokenPage(f"the index sent a page that is not of the simple API: {error!r}") from None


def _from_json(file: Mapping[str, Any], url: str) -> IndexFile:
    named = file.get("core-metadata", file.get("dist-info-metadata"))
    uploaded, size = file.get("upload-time"), file.get("size")
    return IndexFile(
        filename=str(file["filename"]),
        url=urldefrag(urljoin(url, file["url"])).url,
        hashes=hashes_of(file["hashes"]),
        requires_python=file.get("requires-python"),
        yanked=file.get("yanked") or False,
        uploaded=read_time(uploaded) if isinstance(uploaded, str) else None,
        size=size if isinstance(size, int) else None,
        metadata=hashes_of(cast("Mapping[str, object]", named)) if isinstance(named, dict) else (),
    )


def read_time(text: str) -> float | None:
    """Unix seconds of a time of ISO 8601."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)).timestamp()


def _read_html(text: str, url: str) -> list[IndexFile]:
    parser = _Anchors()
    parser.feed(text)
    files: list[IndexFile] = []
    for attributes in parser.found:
        whole = urljoin(url, attributes.get("href") or "")
        address, fragment = urldefrag(whole)
        metadata = attributes.get("data-core-metadata") or attributes.get("data-dist-info-metadata") or ""
        files.append(
            IndexFile(
                filename=unquote(address.rpartition("/")[2].partition("?")[0]),
                url=address,
                hashes=_equal_hashes(fragment),
                requires_python=attributes.get("data-requires-python"),
                yanked=(attributes["data-yanked"] or True) if "data-yanked" in attributes else False,
                metadata=_equal_hashes(metadata),
            )
        )
    return files


class _Anchors(HTMLParser):
    """The attributes of each link."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))


def _equal_hashes(text: str) -> tuple[str, ...]:
    """Those of `sha256=HEX`."""
    name, _, digest = text.partition("=")
    return hashes_of({name: digest})


def filter_files(
    files: Iterable[IndexFile], *, name: str, allowed: AllowList, newest: float | None
) -> tuple[list[IndexFile], list[Withheld]]:
    """The files of the package `name` that may be had: allowed by version and hash, with a strong
    hash, and uploaded before `newest` (Unix seconds). The others of allowed versions are withheld.
    """
    kept: list[IndexFile] = []
    withheld: list[Withheld] = []
    for file in files:
        found = of_file(file.filename)
        if found is None or found[0] != name:
            continue
        version = allowed.version("pypi", *found)
        if version is None:
            continue
        reason = ""
        if not file.hashes and not version.hashes:
            reason = "neither the index nor a lock file has a hash of it"
        elif file.hashes and not version.accepts(file.hashes):
            reason = "its hash is not the lock file's"
        elif newest is not None and (file.uploaded is None or file.uploaded > newest):
            reason = AGE_UNKNOWN if file.uploaded is None else TOO_NEW
        if reason:
            withheld.append(Withheld(file.filename, reason))
        else:
            kept.append(file)
    return kept, withheld


def write_json(name: str, files: Sequence[IndexFile], *, address: Address) -> bytes:
    versions = {found[1]: None for each in files if (found := of_file(each.filename)) is not None}
    return msgspec.json.encode(
        {
            "meta": {"api-version": "1.1"},
            "name": name,
            "versions": [_shown_version(each) for each in versions],
            "files": [_to_json(each, address(each)) for each in files],
        }
    )


def _shown_version(normal: str) -> str:
    return normal.removeprefix("0!")


def _to_json(file: IndexFile, url: str) -> dict[str, object]:
    made: dict[str, object] = {
        "filename": file.filename,
        "url": url,
        "hashes": dict(each.split(":", 1) for each in file.hashes),
        "yanked": file.yanked,
        "core-metadata": dict(each.split(":", 1) for each in file.metadata) or False,
    }
    if file.requires_python is not None:
        made["requires-python"] = file.requires_python
    if file.uploaded is not None:
        uploaded = dt.datetime.fromtimestamp(file.uploaded, dt.UTC)
        made["upload-time"] = uploaded.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if file.size is not None:
        made["size"] = file.size
    return made


def write_html(name: str, files: Sequence[IndexFile], *, address: Address) -> bytes:
    lines = ["<!DOCTYPE html>", f"<html><head><title>{html.escape(name)}</title></head><body>"]
    for file in files:
        fragment = f"#{file.hashes[0].replace(':', '=')}" if file.hashes else ""
        attributes = {"href": address(file) + fragment}
        if file.requires_python is not None:
            attributes["data-requires-python"] = file.requires_python
        if file.yanked is not False:
            attributes["data-yanked"] = file.yanked if isinstance(file.yanked, str) else ""
        if file.metadata:
            attributes["data-core-metadata"] = file.metadata[0].replace(":", "=")
        written = " ".join(f'{key}="{html.escape(value)}"' for key, value in attributes.items())
        lines.append(f"<a {written}>{html.escape(file.filename)}</a><br>")
    return "\n".join([*lines, "</body></html>", ""]).encode()
