from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modelplex.http_client import HttpClient
from modelplex.packages import upstream as module
from modelplex.packages.upstream import FetchFailed, IndexClient, IndexSpec, Page
from tests.packages.indexes import Index, index, sha256

PAGE = "/simple/a/"


def _page(source: Index, *, url: str = "", authorization: str | None = None) -> Page:
    async def main() -> Page:
        client = HttpClient()
        spec = IndexSpec(url or f"{source.origin}/simple", authorization)
        try:
            found = IndexClient({"pypi": [spec]}, client=client, with_times=False)
            return await found.page("pypi", "a", index=spec)
        finally:
            await client.aclose()

    return asyncio.run(main())


def _file(
    source: Index, url: str, to: Path, *, content: bytes = b"x", authorization: str | None = None
) -> int:
    async def main() -> int:
        client = HttpClient()
        spec = IndexSpec(f"{source.origin}/simple", authorization)
        upstream = IndexClient({"pypi": [spec]}, client=client, with_times=False)
        try:
            return await upstream.file(
                url, index=spec, exact=[f"sha256:{sha256(content)}"], any_of=frozenset(), to=to
            )
        finally:
            await client.aclose()

    return asyncio.run(main())


def test_a_redirect_on_the_same_server_is_followed() -> None:
    with index() as source:
        source.answers[PAGE] = (301, {"location": "/simple/b/"}, b"")
        source.answers["/simple/b/"] = (200, {"content-type": "text/html"}, b"page")
        page = _page(source)
        assert (page.body, page.url) == (b"page", f"{source.origin}/simple/b/")


def test_a_redirect_to_another_server_is_not_followed() -> None:
    with index() as source, index() as other:
        source.answers[PAGE] = (302, {"location": f"{other.origin}/simple/a/"}, b"")
        with pytest.raises(FetchFailed, match="redirects to another server"):
            _page(source)
        assert other.asked == []


def test_an_endless_redirect_ends() -> None:
    with index() as source:
        source.answers[PAGE] = (302, {"location": PAGE}, b"")
        with pytest.raises(FetchFailed, match="redirects more than"):
            _page(source)
        assert len(source.asked) == module.MAX_REDIRECTS + 1


def test_a_password_goes_to_the_index_only(tmp_path: Path) -> None:
    with index() as source, index() as other:
        source.answers[PAGE] = (200, {}, b"")
        other.answers["/x?sig=1"] = (200, {}, b"x")
        _page(source, authorization="Basic eDp5")
        assert source.requests[0][1]["authorization"] == "Basic eDp5"
        assert _file(source, f"{other.origin}/x?sig=1", tmp_path / "x", authorization="Basic eDp5") == 1
        assert "authorization" not in other.requests[0][1]


@pytest.mark.parametrize("answer", [(404, {}, b""), (200, {"content-encoding": "gzip"}, b""), (304, {}, b"")])
def test_another_answer_is_an_error(answer: tuple[int, dict[str, str], bytes]) -> None:
    with index() as source:
        source.answers[PAGE] = answer
        with pytest.raises(FetchFailed):
            _page(source)


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with index() as source:
        source.answers[PAGE] = (200, {}, b"x" * 100)
        monkeypatch.setattr(module, "MAX_PAGE", 10)
        with pytest.raises(FetchFailed, match="larger than the limit"):
            _page(source)
        monkeypatch.setattr(module, "MAX_FILE", 10)
        with pytest.raises(FetchFailed, match="more than 10 bytes"):
            _file(source, f"{source.origin}{PAGE}", tmp_path / "x", content=b"x" * 100)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a.example/x", "https://u:p@a.example/", "/x"])
def test_an_address_that_is_no_http_is_an_error(url: str, tmp_path: Path) -> None:
    with index() as source, pytest.raises(FetchFailed, match="cannot be fetched"):
        _file(source, url, tmp_path / "x")


def test_a_server_that_is_not_there_is_an_error() -> None:
    with index() as source:
        url = source.origin
    with pytest.raises(FetchFailed):
        _page(source, url=url)
