from __future__ import annotations

from pathlib import Path

import pytest

from modelplex.packages.host_settings import HostIndex, HostSettings, read_host_settings, split_user


def _read(home: Path, **environ: str) -> HostSettings:
    return read_host_settings(environ, home=home, without=home / "project", system=home)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_variables_come_before_files(tmp_path: Path) -> None:
    _write(
        tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://file.example/simple\ncert = /ca\n"
    )
    _write(tmp_path / "etc/xdg/pip/pip.conf", "[global]\nindex-url = https://system.example/simple\n")
    assert _read(tmp_path).pip == HostIndex("https://file.example/simple", "/ca")
    assert _read(tmp_path, PIP_INDEX_URL="https://v.example").pip == HostIndex("https://v.example", "/ca")


def test_the_settings_of_uv_are_read(tmp_path: Path) -> None:
    _write(
        tmp_path / ".config/uv/uv.toml",
        '[[index]]\nurl = "https://more.example"\n[[index]]\nurl = "https://first.example"\ndefault = true\n',
    )
    assert _read(tmp_path).uv.url == "https://first.example"
    assert _read(tmp_path, UV_DEFAULT_INDEX="name=https://v.example/x").uv.url == "https://v.example/x"
    assert _read(tmp_path, UV_INDEX_URL="https://old.example").uv.url == "https://old.example"


def test_the_settings_of_npm_are_read(tmp_path: Path) -> None:
    _write(
        tmp_path / ".npmrc",
        "; comment\n//r.example/:_authToken=secret\nregistry = https://${REGISTRY}/npm/\ncafile=/ca\n@a:registry=https://x\n",
    )
    assert _read(tmp_path, REGISTRY="r.example").npm == HostIndex("https://r.example/npm/", "/ca")
    assert _read(tmp_path, NPM_CONFIG_REGISTRY="https://v.example").npm.url == "https://v.example"


def test_more_indexes_of_pip_and_uv_are_read(tmp_path: Path) -> None:
    _write(
        tmp_path / ".config/pip/pip.conf",
        "[global]\nextra-index-url =\n    https://one.example/simple\n    https://two.example/simple\n",
    )
    _write(
        tmp_path / ".config/uv/uv.toml",
        'extra-index-url = ["https://old.example"]\n[[index]]\nname = "team-x"\nurl = "https://team.example/s"\n'
        '[[index]]\nurl = "https://torch.example"\nexplicit = true\n[[index]]\nurl = 1\n',
    )
    found = _read(tmp_path, UV_INDEX="a=https://v.example https://w.example", UV_INDEX_TEAM_X_PASSWORD="s/e")
    assert found.pip == HostIndex(None, None, ("https://one.example/simple", "https://two.example/simple"))
    assert found.uv.more == (
        *("https://v.example", "https://w.example"),
        *("https://:s%2Fe@team.example/s", "https://old.example"),
    )
    assert found.uv.last == ("https://torch.example",)
    assert _read(tmp_path, PIP_EXTRA_INDEX_URL="https://v.example").pip.more == ("https://v.example",)


def test_scopes_and_keys_of_npm_are_read(tmp_path: Path) -> None:
    _write(
        tmp_path / ".npmrc",
        "@a:registry=https://r.example/npm/a/\n//r.example/npm/:_authToken=${TOKEN}\n"
        "//s.example/:_auth=dTpw\n//t.example/:username=me\n//t.example/:_password=cGFzcw==\n"
        "//t.example:8080/:_authToken=other\n; //u.example/:_authToken=no\n",
    )
    found = _read(tmp_path, TOKEN="secret")
    assert found.scopes == {"@a": "https://r.example/npm/a/"}
    for url, header in {
        "https://r.example/npm/a": "Bearer secret",
        "https://r.example/npm": "Bearer secret",
        "https://r.example": None,
        "https://r.example/npmx": None,
        "https://s.example/deep/path": "Basic dTpw",
        "https://t.example": "Basic bWU6cGFzcw==",
        "https://t.example:8080": "Bearer other",
        "https://u.example": None,
    }.items():
        assert found.authorization(url, is_npm=True) == header, url
    assert found.authorization("https://s.example", is_npm=False) is None


def test_passwords_of_a_netrc_are_for_pythons_indexes(tmp_path: Path) -> None:
    _write(
        tmp_path / ".netrc",
        "machine i.example login me password pass\nmacdef x\nmachine\ndefault login no password no\n",
    )
    found = _read(tmp_path)
    assert found.authorization("https://i.example/simple", is_npm=False) == "Basic bWU6cGFzcw=="
    assert found.authorization("https://other.example/simple", is_npm=False) is None
    assert found.authorization("https://i.example", is_npm=True) is None


def test_files_of_the_project_are_not_read(tmp_path: Path) -> None:
    project = tmp_path / "project"
    _write(project / "pip.conf", "[global]\nindex-url = https://evil.example\n")
    _write(project / ".npmrc", "registry=https://evil.example\n")
    (tmp_path / ".npmrc").symlink_to(project / ".npmrc")
    found = _read(tmp_path, VIRTUAL_ENV=str(project), PIP_CONFIG_FILE=str(project / "pip.conf"))
    assert "evil" not in repr(found)


def test_broken_files_are_left_out(tmp_path: Path) -> None:
    _write(tmp_path / ".config/pip/pip.conf", "no section\n")
    _write(tmp_path / ".config/uv/uv.toml", "index = 1\n[pip]\nindex-url = 2")
    assert _read(tmp_path).pip == HostIndex(None)
    assert _read(tmp_path).uv.url is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://i.example/simple/", ("https://i.example/simple", None)),
        ("https://me:p%40ss@I.example/simple", ("https://i.example/simple", "Basic bWU6cEBzcw==")),
    ],
)
def test_a_password_is_taken_out_of_an_address(url: str, expected: tuple[str, str | None]) -> None:
    assert split_user(url) == expected
