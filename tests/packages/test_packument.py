from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.packages.allow_list import AllowList, LockedPackage, integrity_hashes
from modelplex.packages.packument import BrokenPackument, read_packument, write_packument
from tests.packages.indexes import integrity

GOOD, OTHER = integrity(b"x"), integrity(b"y")


def _document(**more: Any) -> bytes:
    versions = {
        "1.0.0": {
            "version": "1.0.0",
            "scripts": {"test": "x"},
            "dist": {"tarball": "https://r.example/1", "integrity": GOOD},
        },
        "2.0.0": {"dist": {"tarball": "https://r.example/2", "integrity": OTHER}},
        "3.0.0": {"dist": {"tarball": "https://r.example/3", "shasum": "abc"}},
        "4.0.0": {"dist": {"tarball": "https://r.example/4", "integrity": GOOD}},
    }
    tags = {"latest": "4.0.0", "old": "1.0.0"}
    return json.dumps(
        {"name": "a", "dist-tags": tags, "versions": versions, "readme": "long", **more}
    ).encode()


ALLOWED = AllowList(
    [
        LockedPackage("npm", "a", "1.0.0", integrity_hashes(GOOD)),
        LockedPackage("npm", "a", "2.0.0", integrity_hashes(GOOD)),
        LockedPackage("npm", "a", "3.0.0"),
    ]
)


def test_only_allowed_versions_are_kept() -> None:
    found = read_packument(_document(), name="a", allowed=ALLOWED, newest=None)
    assert list(found.versions) == ["1.0.0"]
    assert {each.filename: each.reason for each in found.withheld} == {
        "a@2.0.0": "its hash is not the lock file's",
        "a@3.0.0": "the registry has no strong hash of it",
    }
    written = json.loads(write_packument(found, address=lambda version: f"https://here/{version}.tgz"))
    assert written["dist-tags"] == {"old": "1.0.0", "latest": "1.0.0"}
    assert written["versions"]["1.0.0"]["dist"] == {"tarball": "https://here/1.0.0.tgz", "integrity": GOOD}
    assert written["versions"]["1.0.0"]["scripts"] == {"test": "x"}
    assert "readme" not in written


def test_a_release_must_be_old_enough() -> None:
    for time, kept in (
        ({"1.0.0": "1970-01-01T00:00:01Z"}, 1),
        ({"1.0.0": "1970-01-02T00:00:00Z"}, 0),
        ({}, 0),
    ):
        found = read_packument(_document(time=time), name="a", allowed=ALLOWED, newest=100.0)
        assert len(found.versions) == kept


@pytest.mark.parametrize("body", [b"{", b"[]", b"[" * 100_000])
def test_another_document_is_an_error(body: bytes) -> None:
    with pytest.raises(BrokenPackument):
        read_packument(body, name="a", allowed=ALLOWED, newest=None)


def test_members_of_other_types_are_left_out() -> None:
    body = b'{"versions": {"1.0.0": 1, "2.0.0": {"dist": 2}}, "dist-tags": 3, "time": 4}'
    assert read_packument(body, name="a", allowed=ALLOWED, newest=None).versions == {}
