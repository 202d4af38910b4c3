from __future__ import annotations

from modelplex.packages.lock_files import LockedAddress
from modelplex.packages.pnpm_lock import read_pnpm_lock
from tests.packages.indexes import integrity

SUM = integrity(b"x")

NEW = f"""lockfileVersion: '9.0'

importers:
  .:
    dependencies:
      fake:
        specifier: 9.9.9
        version: 9.9.9

packages:

  '@a/b@1.0.0':
    resolution: {{integrity: {SUM}}}
    engines: {{node: '>=8'}}

  plain@2.0.0-rc.1:
    resolution: {{integrity: {SUM}, tarball: https://r.example/npm/plain/-/plain-2.0.0-rc.1.tgz}}

  from-git@https://codeload.example/x:
    resolution: {{tarball: https://codeload.example/x}}

snapshots:

  other@3.0.0: {{}}
"""
OLD = f"""lockfileVersion: '6.0'
packages:
  /@a/b@1.0.0(peer@2.0.0):
    resolution: {{integrity: {SUM}}}
    dev: true
  /five/5.0.0_peer@1.0.0:
    resolution: {{integrity: {SUM}}}
"""


def test_the_lock_of_pnpm_is_read() -> None:
    lock = read_pnpm_lock(NEW)
    assert [(each.name, each.version) for each in lock.packages] == [
        ("@a/b", "1.0.0"),
        ("plain", "2.0.0-rc.1"),
    ]
    assert all(each.hashes for each in lock.packages)
    assert lock.places == {LockedAddress("npm", "https://r.example/npm")}


def test_older_forms_are_read() -> None:
    lock = read_pnpm_lock(OLD)
    assert [(each.name, each.version) for each in lock.packages] == [("@a/b", "1.0.0"), ("five", "5.0.0")]


def test_other_text_names_nothing() -> None:
    assert read_pnpm_lock("packages: [a@1.0.0]\n  a@1.0.0: x\n- b").packages == ()
