"""What of a git repository a sandbox shares, and what of it the program cannot change."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelplex.sandbox.git import find_repository, settings_files
from tests.processes import WAIT_S
from tests.sandbox.sandboxes import SECRET, Person, by_either_builder

PLAIN = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *words: str, environ: Mapping[str, str] = PLAIN) -> None:
    program = shutil.which("git")
    assert program is not None
    subprocess.run(
        [program, *words], cwd=folder, env=dict(environ), check=True, capture_output=True, timeout=WAIT_S
    )


def repository(folder: Path) -> Path:
    (folder / "packages" / "foo").mkdir(parents=True)
    (folder / "packages" / "foo" / "a").write_text("a")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """`repo` with a linked worktree `linked`; `whole` with a submodule `sub`."""
    repo = repository(tmp_path / "repo")
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"))
    whole = repository(tmp_path / "whole")
    git(whole, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repo), "sub")
    return tmp_path


def find(folder: Path, *, home: str = "/home/somebody") -> tuple[str, ...]:
    return find_repository(str(folder), homes=[home])


def test_a_whole_repository_needs_nothing_more(layout: Path) -> None:
    assert find(layout / "repo") == ()
    assert find(layout) == ()


def test_a_part_of_a_repository_has_its_top_level(layout: Path) -> None:
    found = find(layout / "repo" / "packages" / "foo")
    assert found == (f"{layout}/repo",)


def test_a_worktree_has_the_folder_that_it_has_in_common(layout: Path) -> None:
    found = find(layout / "linked")
    assert found == (f"{layout}/repo/.git",)
    assert find(layout / "linked" / "packages") == (
        f"{layout}/linked",
        f"{layout}/repo/.git",
    )


def test_a_submodule_has_its_own_part_of_the_whole(layout: Path) -> None:
    found = find(layout / "whole" / "sub")
    assert found == (f"{layout}/whole/.git/modules/sub",)


def test_a_relative_worktree(layout: Path) -> None:
    own = layout / "repo" / ".git" / "worktrees" / "linked"
    (own / "gitdir").write_text("../../../../linked/.git\n")
    (layout / "linked" / ".git").write_text("gitdir: ../repo/.git/worktrees/linked\n")
    assert find(layout / "linked") == (f"{layout}/repo/.git",)


@pytest.mark.parametrize(
    "named",
    [
        "{there}/repo/.git/worktrees/linked",
        "{there}/repo/.git",
        "{there}/whole/.git/modules/sub",
        "{there}/private",
        "/",
        "",
    ],
)
def test_a_folder_that_does_not_point_back_is_not_shared(layout: Path, named: str) -> None:
    """The `.git` file is a program's of an earlier sandbox."""
    for folder in ("private", "project"):
        (layout / folder).mkdir()
    for name in ("HEAD", "config"):
        (layout / "private" / name).write_text("")
    for name in ("objects", "refs"):
        (layout / "private" / name).mkdir()
    (layout / "project" / ".git").write_text(f"gitdir: {named.format(there=layout)}\n")
    assert find(layout / "project") == ()


def test_pointers_to_what_is_not_a_repository_are_not_followed(layout: Path) -> None:
    """An own folder that points back does not make the folder two above it a repository."""
    linked = layout / "linked"
    fake = layout / "private" / "worktrees" / "x"
    fake.mkdir(parents=True)
    (fake / "gitdir").write_text(f"{linked}/.git\n")
    (fake / "commondir").write_text(f"{layout}/repo/.git\n")
    (linked / ".git").write_text(f"gitdir: {fake}\n")
    assert find(linked) == ()


def test_a_named_pipe_or_link_is_not_followed(layout: Path) -> None:
    for name in ("piped", "linking"):
        (layout / name).mkdir()
    os.mkfifo(layout / "piped" / ".git")
    (layout / "linking" / ".git").symlink_to(layout / "linked" / ".git")
    assert find(layout / "piped") == ()
    assert find(layout / "linking") == ()


def test_a_repository_around_a_home_is_not_shared(layout: Path) -> None:
    home = layout / "repo" / "packages"
    assert find(home / "foo", home=str(home)) == ()
    assert find(layout / "linked", home=f"{layout}/repo/.git/x") == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_repository_of_another_user_is_not_shared(layout: Path) -> None:
    os.chown(layout / "repo" / ".git", 65534, 65534)
    assert find(layout / "repo" / "packages") == ()


# --- the user's settings ---

SETTINGS = f"""
[user]
	name = A \\"quoted\\" \\\\ name
	email = a@example.com
	signingkey = {SECRET}
[credential]
	helper = store --file {SECRET}
[include]
	path = more
[url "https://{SECRET}@example.com/"]
	insteadOf = https://example.com/
[core]
	sshCommand = {SECRET}
	excludesFile = ~/ignored
[http]
	extraHeader = {SECRET}
[safe]
	directory = /srv/one
	directory = /srv/two
"""


def test_the_users_name_passes_and_no_credential(tmp_path: Path) -> None:
    program = shutil.which("git")
    assert program is not None
    (tmp_path / ".gitconfig").write_text(SETTINGS)
    (tmp_path / "more").write_text(f"[pull]\n\trebase\n[github]\n\ttoken = {SECRET}\n")
    (tmp_path / "ignored").write_text("*.bak\n")
    files = settings_files(program, home=str(tmp_path), folder=str(tmp_path), environ={"HOME": str(tmp_path)})
    assert SECRET not in str(files)
    assert files.pop(f"{tmp_path}/.config/git/ignore") == "*.bak\n"
    (written,) = files.values()
    (tmp_path / ".gitconfig").write_text(written)
    again = settings_files(program, home=str(tmp_path), folder=str(tmp_path), environ={"HOME": str(tmp_path)})
    assert again == files
    read = subprocess.run(
        [program, "config", "--file", str(tmp_path / ".gitconfig"), "--list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout.splitlines() == [
        'user.name=A "quoted" \\ name',
        "user.email=a@example.com",
        "pull.rebase=true",
        "safe.directory=/srv/one",
        "safe.directory=/srv/two",
    ]


def test_without_settings_no_file_is_made(tmp_path: Path) -> None:
    program = shutil.which("git")
    assert program is not None
    where = {"home": str(tmp_path), "folder": str(tmp_path), "environ": {"HOME": str(tmp_path)}}
    assert settings_files(program, **where) == {}  # type: ignore[arg-type]
    assert settings_files("/no/such/program", **where) == {}  # type: ignore[arg-type]


# --- for real ---

USE = """
set -e
cd "$1"
git status --short --branch
echo more >> packages/foo/a
git commit -qam second
git branch topic; git branch -D topic
git stash list
git log --format='%an %ae' -1
"""
CHANGE = """
for path in "$@"; do
  (echo x >> "$path") 2> /dev/null && echo "wrote $path"
  mv "$path" "$path.moved" 2> /dev/null && echo "moved $path"
done
echo end
"""


@by_either_builder
@pytest.mark.parametrize("layout_name", ["linked", "repo/packages/foo", "whole/sub"])
def test_git_works_in_every_layout(who: Person, builder: list[str], layout_name: str) -> None:
    make(who)
    (who.home / ".gitconfig").write_text("[user]\n\tname = Ann\n\temail = ann@example.com\n")
    there = who.folder / layout_name
    top = there.parent.parent if layout_name == "repo/packages/foo" else there
    done = in_folder(who, there, *builder, "--", "sh", "-c", USE, "sh", str(top))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("## ", "Deleted branch topic"))
    assert done.stdout.endswith("Ann ann@example.com\n")


@by_either_builder
@pytest.mark.parametrize("options", [["--ro", "."], ["--fs", "ro", "--ro", "."]])
def test_the_repository_is_read_only_with_the_project(
    me: Person, builder: list[str], options: list[str]
) -> None:
    make(me)
    for name, written in (("linked", me.folder / "repo/.git/x"), ("repo/packages/foo", me.folder / "repo/x")):
        code = f"git status --short --branch; touch {written}"
        done = in_folder(me, me.folder / name, *options, *builder, "--", "sh", "-c", code)
        assert done.stdout.startswith("## "), done.stderr
        assert "Read-only file system" in done.stderr


@by_either_builder
def test_what_git_runs_on_the_host_cannot_be_changed(me: Person, builder: list[str]) -> None:
    make(me)
    own = me.folder / "repo/.git/worktrees/linked"
    paths = [me.folder / "linked/.git", own / "commondir", own / "gitdir", own, me.folder / "repo/.git"]
    paths += [
        me.folder / "repo/.git/config",
        me.folder / "repo/.git/hooks",
        me.folder / "repo/.git/hooks/pre-commit",
    ]
    done = in_folder(me, me.folder / "linked", *builder, "--", "sh", "-c", CHANGE, "sh", *map(str, paths))
    assert done.stdout == "end\n", done.stderr


def make(who: Person) -> None:
    """The three layouts, made by this user."""
    lines = (
        "set -e",
        "for it in repo whole; do mkdir -p $it/packages/foo; echo a > $it/packages/foo/a; git init -q $it; git -C $it add .; git -C $it commit -qm first; done",
        "git -C repo worktree add -q ../linked",
        "cd whole; git -c protocol.file.allow=always submodule add -q ../repo sub; git commit -qm sub",
    )
    subprocess.run(
        [*who.words, "/bin/sh", "-c", "\n".join(lines)],
        cwd=who.folder,
        env={**who.environ, **PLAIN},
        check=True,
        capture_output=True,
        timeout=WAIT_S,
    )


def in_folder(who: Person, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return Person(who.name, folder, who.home).run(*arguments)
