"""The protected files of a project in a real run: the lines at its start and end."""

from __future__ import annotations

import subprocess
from pathlib import Path

from modelplex.sandbox.protected import Protected
from modelplex.sandbox.protection import end_lines, file_state, start_line
from tests.processes import WAIT_S
from tests.sandbox.repositories import IDENTITY, git
from tests.sandbox.sandboxes import SECRET, Person, allowed


def test_the_start_names_what_is_protected(me: Person) -> None:
    git(me.folder, "init", "-q")
    (me.folder / ".env").write_text(SECRET)
    done = me.run("--", "cat", ".env")
    assert done.stderr == (
        "modelplex run: read-only: .vscode, .idea, configuration and hooks of .git (--no-protect); hidden: .env (--show-env)\n"
    )
    assert done.stdout == ""
    assert sorted(path.name for path in me.folder.iterdir()) == [".env", ".git"]
    assert not (me.folder / ".git" / "commondir").exists()


def test_the_options_that_open(me: Person) -> None:
    git(me.folder, "init", "-q")
    (me.folder / ".env").write_text(SECRET)
    done = me.run("--show-env", "--rw", ".git/hooks", "--", "sh", "-c", "cat .env; touch .git/hooks/made")
    assert done.stdout == SECRET
    assert (me.folder / ".git" / "hooks" / "made").exists()
    assert me.run("--ro", ".env", "--", "cat", ".env").stdout == SECRET
    done = me.run("--no-protect", "--", "sh", "-c", "mkdir .vscode && echo '[a]' >> .git/config")
    assert (done.returncode, done.stderr) == (0, "")
    done = me.run("--fs", "host", "--", "cat", ".env")
    assert (done.stdout, done.stderr) == (SECRET, "")


def test_git_commits_inside(me: Person) -> None:
    git(me.folder, "init", "-q")
    options = [word for name, value in IDENTITY.items() for word in ("--env", f"{name}={value}")]
    script = "echo x > a && git add a && git commit -q -m one && git stash list && git status --short && git gc -q && git checkout -q -b other"
    done = me.run(*options, "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert git(me.folder, "log", "--format=%s").strip() == "one"
    assert git(me.folder, "status", "--short") == ""


def test_the_end_reports_what_runs_programs(me: Person) -> None:
    git(me.folder, "init", "-q")
    done = me.run("--", "sh", "-c", "git init -q made && mkdir .claude && echo {} > .claude/settings.json")
    assert "the program made a git repository" in done.stderr
    assert "look at made/.git first" in done.stderr
    assert "something changed .claude/settings.json" in done.stderr


def test_the_end_reports_a_rebase_and_files_of_variables(me: Person) -> None:
    """A rebase that is left open may have lines with `exec`, which the host would go on with."""
    git(me.folder, "init", "-q")
    (me.folder / ".env").write_text(SECRET)
    script = (
        "git commit -q --allow-empty -m 1; cp .env .env.copy; echo X=1 > .env.local; echo {} > opencode.json\n"
        "printf '#!/bin/sh\\necho break > $1; echo exec touch x >> $1' > /tmp/editor; chmod +x /tmp/editor\n"
        "GIT_SEQUENCE_EDITOR=/tmp/editor git rebase -q -i --root"
    )
    options = [word for name, value in IDENTITY.items() for word in ("--env", f"{name}={value}")]
    done = me.run(*options, "--", "sh", "-c", script)
    assert "the program made .env.copy, .env.local, whose variables" in done.stderr
    changed = next(line for line in done.stderr.splitlines() if "something changed" in line)
    assert ".git/rebase-merge/git-rebase-todo" in changed
    assert "opencode.json" in changed


def test_a_file_that_the_host_replaces_is_reported(tmp_path: Path) -> None:
    """Its mount is gone since then."""
    config = tmp_path / "config"
    config.write_text("a")
    before = Protected(read_only=[str(config)])
    states = {str(config): file_state(str(config))}
    assert end_lines(before, before, states, here=str(tmp_path)) == []
    (tmp_path / "new").write_text("a")
    (tmp_path / "new").rename(config)
    (line,) = end_lines(before, before, states, here=str(tmp_path))
    assert "something changed config," in line


def test_a_line_names_a_few_files(tmp_path: Path) -> None:
    many = Protected(
        read_only=["/p/.vscode"], hidden=[f"/p/{n}/.env" for n in range(9)], is_complete=False, links=["/p/l"]
    )
    line = start_line(many, here="/p")
    assert "hidden: 0/.env, 1/.env, 2/.env, 3/.env, 4/.env, 5/.env and 3 more (--show-env)" in line
    assert "not protected, since they are links: l" in line
    assert line.endswith("not all protected, since the project has too many files")
    assert start_line(Protected(), here=str(tmp_path)) == ""


def test_a_program_that_reads_the_output_is_told_what_it_cannot_see() -> None:
    plain = Protected(read_only=("/p/.vscode",))
    assert "read-only: .vscode" in start_line(plain, here="/p")
    assert start_line(plain, here="/p", to_person=False) == ""
    hidden = Protected(read_only=("/p/.vscode",), hidden=("/p/.env",))
    assert "hidden: .env" in start_line(hidden, here="/p", to_person=False)


def test_two_runs_share_the_placeholders(me: Person) -> None:
    """The one that ends first leaves the other's protection."""
    script = "echo up; read -r line; mkdir .vscode/x 2>/dev/null || echo kept"
    popen = subprocess.Popen(
        me.command("run", "--", "sh", "-c", script),
        cwd=me.folder,
        env=me.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert popen.stdout is not None
    up = popen.stdout.readline()
    if not up:
        allowed(popen.communicate()[1])
    assert up == "up\n"
    assert me.run("--", "true").stderr == ""
    assert (me.folder / ".vscode").is_dir()
    out, err = popen.communicate("go\n", timeout=WAIT_S)
    assert out == "kept\n", err
    assert not list(me.folder.iterdir())
