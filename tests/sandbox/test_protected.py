"""What is found in a project: git folders of every layout, settings of editors, .env files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from modelplex.sandbox.protected import SAME_FOLDER, Protected, SharedPaths, find_protected
from tests.sandbox.repositories import git, repository


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return repository(tmp_path / "p")


def found(
    project: Path,
    *,
    writable: tuple[Path, ...] = (),
    read_only: tuple[Path, ...] = (),
    show_env: bool = False,
    max_entries: int = 10_000,
) -> Protected:
    named = [str(path) for path in (*writable, *read_only)]
    folder = str(project)
    shared = SharedPaths(
        folder,
        [*map(str, writable), *([] if project in read_only else [folder])],
        [*map(str, read_only)],
        named,
    )
    return find_protected(
        shared, home=str(project.parent / "home"), show_env=show_env, max_entries=max_entries
    )


def below(project: Path, paths: Iterable[str]) -> set[str]:
    return {path.removeprefix(f"{project}/") for path in paths}


def test_the_files_of_every_git_folder(project: Path) -> None:
    read_only = below(project, found(project).read_only)
    assert {".git/config", ".git/hooks", ".git/commondir", ".vscode", ".idea", "sub/.git"} <= read_only
    assert {".git/modules/sub/config", ".git/modules/sub/hooks", ".git/modules/sub/commondir"} <= read_only
    worktree = next((project / ".git" / "worktrees").iterdir()).name
    assert {f".git/worktrees/{worktree}/{name}" for name in ("commondir", "gitdir")} <= read_only
    missing = found(project).missing
    assert missing[str(project / ".git" / "commondir")] == SAME_FOLDER
    assert missing[str(project / ".vscode")] is None
    assert str(project / ".git" / "config") not in missing


def test_git_works_where_a_git_folder_names_itself(project: Path) -> None:
    for folder in (project / ".git", project / ".git" / "modules" / "sub"):
        (folder / "commondir").write_text(SAME_FOLDER)
    (project / "a").write_text("a")
    git(project, "add", "a")
    git(project, "commit", "-q", "-m", "second")
    git(project, "gc", "-q")
    assert git(project, "rev-parse", "--show-toplevel").strip() == str(project)
    assert git(project / "sub", "status", "--short") == ""
    git(project / "sub", "commit", "-q", "--allow-empty", "-m", "in it")
    assert git(project, "status", "--short") == " M sub\n"
    assert "[w]" in git(project, "worktree", "list")


def test_a_worktree_protects_the_common_folder_where_that_is_writable(project: Path) -> None:
    tree = project.parent / "p-w"
    alone = found(tree)
    assert str(tree / ".git") in alone.read_only
    assert not any(path.startswith(f"{project}/") for path in alone.read_only)
    both = found(tree, writable=(project,))
    assert {str(project / ".git" / "config"), str(project / ".git" / "hooks"), str(tree / ".git")} <= set(
        both.read_only
    )


def test_a_project_in_a_subfolder_protects_the_top_that_is_writable(project: Path) -> None:
    (project / "src").mkdir()
    shared = SharedPaths(str(project / "src"), [str(project / "src"), str(project)])
    read_only = below(project, find_protected(shared, home="/nonexistent").read_only)
    assert {"src/.vscode", ".vscode", ".git/hooks"} <= read_only


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("[core]\n\thooksPath = .githooks\n", ".githooks"),
        ('[core] hooksPath = "my hooks" # why\n', "my hooks"),
        ("[CORE]\n\tHooksPath = .husky/_\n", ".husky"),
        ("[core]\n\thooksPath = a/b/c ; why\n", "a"),
        ("[include]\n\tpath = ../shared.gitconfig\n", "shared.gitconfig"),
        ('[includeIf "gitdir:/x/"]\n\tpath = ../deep/../shared.gitconfig\n', "shared.gitconfig"),
        ("[extensions]\n\tworktreeConfig = true\n", ".git/config.worktree"),
    ],
)
def test_what_a_configuration_names_is_protected_before_it_exists(
    project: Path, config: str, expected: str
) -> None:
    with (project / ".git" / "config").open("a") as file:
        file.write(config)
    assert str(project / expected) in found(project).missing


def test_includes_are_followed_and_may_be_circular(project: Path) -> None:
    (project / "one").write_text("[include]\npath = two\n")
    (project / "two").write_text("[include]\npath = one\n[core]\nhooksPath = of-two\n")
    with (project / ".git" / "config").open("a") as file:
        file.write("[include]\npath = ../one\n")
    assert {"one", "two", "of-two"} <= below(project, found(project).read_only)


def test_hooks_named_by_the_users_own_configuration(project: Path) -> None:
    home = project.parent / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\n\thooksPath = .team-hooks\n")
    assert ".team-hooks" in below(project, found(project).missing)


def test_existing_folders_of_tools_are_protected(project: Path) -> None:
    assert not {".husky", ".devcontainer"} & below(project, found(project).read_only)
    (project / ".husky").mkdir()
    (project / ".husky" / "pre-commit").write_text("x")
    assert ".husky" in below(project, found(project).read_only)


def test_env_files_are_hidden_but_for_templates(project: Path) -> None:
    deep = project / "packages" / "api"
    deep.mkdir(parents=True)
    (project / "node_modules").mkdir()
    for path in (
        project / ".env",
        project / ".envrc",
        deep / ".env.local",
        project / "node_modules" / ".env",
    ):
        path.write_text("KEY=1")
    for name in (".env.example", ".env.sample", "environment"):
        (project / name).write_text("KEY=")
    (project / ".env.d").mkdir()
    assert below(project, found(project).hidden) == {".env", ".envrc", "packages/api/.env.local"}
    assert found(project, show_env=True).hidden == []
    assert below(project, found(project, read_only=(project / ".env",)).hidden) == {
        ".envrc",
        "packages/api/.env.local",
    }


def test_a_link_to_an_env_file_hides_its_target(project: Path) -> None:
    (project / "real").write_text("KEY=1")
    (project / ".env").symlink_to("real")
    outside = project.parent / "outside"
    outside.write_text("KEY=1")
    (project / ".env.local").symlink_to(outside)
    assert below(project, found(project).hidden) == {"real"}


def test_env_files_of_a_read_only_project_are_hidden_too(project: Path) -> None:
    (project / ".env").write_text("KEY=1")
    protected = found(project, read_only=(project,))
    assert below(project, protected.hidden) == {".env"}
    assert (protected.read_only, protected.missing) == ([], {})


def test_a_named_path_is_not_protected(project: Path) -> None:
    read_only = below(project, found(project, writable=(project / ".git" / "hooks",)).read_only)
    assert ".git/hooks" not in read_only
    assert ".git/config" in read_only
    read_only = below(project, found(project, writable=(project / ".git",)).read_only)
    assert not {".git/hooks", ".git/config", ".git/commondir"} & read_only
    assert ".vscode" in read_only


def test_links_are_reported_and_their_targets_protected(project: Path) -> None:
    (project / "settings").mkdir()
    (project / "settings" / "s").write_text("x")
    (project / ".vscode").symlink_to("settings")
    protected = found(project)
    assert below(project, protected.links) == {".vscode"}
    assert "settings" in below(project, protected.read_only)


def test_bare_repositories_and_nested_ones_are_found(project: Path) -> None:
    git(project, "init", "-q", "--bare", "store.git")
    (project / "a" / "nested").mkdir(parents=True)
    git(project / "a" / "nested", "init", "-q")
    protected = found(project)
    assert {"store.git", "a/nested/.git", ".git", "sub/.git"} <= below(project, protected.repositories)
    assert {"store.git/config", "a/nested/.git/hooks"} <= below(project, protected.read_only)


def test_a_folder_that_is_no_repository_may_become_one(tmp_path: Path) -> None:
    (tmp_path / "p" / ".git").mkdir(parents=True)
    assert below(tmp_path / "p", found(tmp_path / "p").read_only) == {".vscode", ".idea"}


def test_the_search_is_limited_and_says_so(project: Path) -> None:
    for number in range(30):
        (project / f"f{number}").touch()
    deep = project / "d" / "e"
    deep.mkdir(parents=True)
    (deep / ".env").touch()
    assert found(project).is_complete
    limited = found(project, max_entries=20)
    assert not limited.is_complete
    assert str(project / ".git" / "config") in limited.read_only


def test_a_folder_that_the_user_may_not_write_to_gets_nothing_new(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str, _mode: int) -> bool:
        return False

    monkeypatch.setattr(os, "access", refuse)
    assert found(project).missing == {}
