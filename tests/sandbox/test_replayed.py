"""`modelplex run --record` and `modelplex replay`, with real programs in real sandboxes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.sandboxes import Person

AGENT = """
import concurrent.futures, datetime, json, os, sys, urllib.error, urllib.request, uuid
def ask(number):
    text = f"Question {number} at {datetime.datetime.now().isoformat()}{' '.join(sys.argv[1:])}"
    body = {"model": "demo", "stream": True, "user": str(uuid.uuid4()), "messages": [{"role": "user", "content": text}]}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        return urllib.request.urlopen(request).read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.headers['x-should-retry']} {json.load(error)['error']['message']}"
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(*sorted(pool.map(ask, [1, 1, 1, 2])), sep="\\n")
"""


def start(person: Person, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        person.command(*words),
        cwd=person.folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(person.home)},
    )


def agent(*words: str) -> list[str]:
    return ["--", sys.executable, "-c", AGENT, *words]


@pytest.mark.timeout(120)
def test_a_run_is_recorded_and_replayed_without_its_provider(me: Person, tmp_path: Path) -> None:
    done = start(me, "run", "--record", "r.jsonl", *agent())
    assert done.returncode == 0, done.stderr
    assert "chat.completion.chunk" in done.stdout
    again = start(me, "replay", "r.jsonl", *agent())
    assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
    changed = start(me, "replay", "r.jsonl", *agent("!"))
    first = changed.stdout.splitlines()[0]
    assert first.startswith("400 false The recording "), changed.stdout
    assert "differs first at messages[0].content: recorded " in first
    by_demo = start(me, "replay", "--on-miss", "demo", "r.jsonl", *agent("!"))
    assert "chat.completion.chunk" in by_demo.stdout, by_demo.stdout


@pytest.mark.timeout(120)
def test_a_config_needs_no_key_in_a_replay_and_its_limits_hold(me: Person) -> None:
    done = start(me, "run", "--record", "r.jsonl", *agent())
    assert done.returncode == 0, done.stderr
    (me.folder / "config.toml").write_text(
        '[[providers]]\ntype = "openai"\n\n[[agents]]\nname = "a"\nsocket = "a.sock"\nmodels = ["other"]\n'
    )
    again = start(me, "replay", "--agent", "a", "r.jsonl", *agent())
    assert again.stdout.startswith("404 "), again.stdout + again.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("replay", "--", "true"), "it needs a recording"),
        (("replay", "run-1", "--timing", "--", "true"), "options stand before the recording"),
        (("replay", "run-1", "--"), "it needs a program"),
        (("replay", "run-1", "--", "true"), "there is no recording run-1"),
        (("run", "--record", "r", "--no-record", "--", "true"), "leave out --no-record"),
        (("run", "--record", "none/r", "--", "true"), "no such file or directory"),
    ],
)
def test_wrong_words_are_explained(words: tuple[str, ...], sentence: str, me: Person) -> None:
    done = start(me, *words)
    assert done.returncode in {1, 2}
    assert sentence in done.stderr


def test_a_config_that_keeps_no_bodies_is_named(me: Person) -> None:
    (me.folder / "config.toml").write_text('[[providers]]\ntype = "demo"\n[record]\ncontent = "metadata"\n')
    done = start(me, "run", "--record", "r.jsonl", "--", "true")
    assert done.returncode == 2
    assert 'the config has [record] content = "metadata"' in done.stderr
