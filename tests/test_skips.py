"""Every skip in CI is one that somebody has reviewed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import OPTION, REVIEWED, Entry, entries, unreviewed

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 50.0


def test_a_skip_passes_only_by_an_entry_for_its_test_and_its_whole_reason() -> None:
    allowed = [Entry(test="tests/a.py::*", reason="no x( here)?", why="w")]
    skips = [
        ("tests/a.py::one", "no x here"),
        ("tests/a.py::one", "no x here"),
        ("tests/a.py::two", "no x at all"),
        ("tests/b.py::one", "no x"),
    ]
    assert unreviewed(skips, allowed) == ["tests/a.py::two: no x at all", "tests/b.py::one: no x"]


def test_the_list_is_readable_and_each_entry_is_about_tests_that_exist() -> None:
    listed = entries(REVIEWED.read_text())
    assert listed
    for entry in listed:
        assert entry.why
        file, _, name = entry.test.partition("::")
        text = (ROOT / file).read_text()
        assert name == "*" or f"def {name.rstrip('*')}(" in text


def test_an_entry_without_its_reason_is_no_entry() -> None:
    with pytest.raises(TypeError):
        entries('[[skip]]\ntest = "a"\nwhy = "b"')


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(
    ("reason", "status"), [("curl is not installed", 1), ("root writes into every file", 0)]
)
def test_a_run_with_a_skip_that_nobody_reviewed_fails_and_names_it(
    tmp_path: Path, workers: str, reason: str, status: int
) -> None:
    folder = tmp_path / "tests" / "limits"
    folder.mkdir(parents=True)
    (folder / "test_budget_store.py").write_text(
        f"import pytest\n@pytest.mark.skip(reason={reason!r})\ndef test_it(): pass\ndef test_other(): pass\n"
    )
    # A conftest of one folder makes pytest choose among its plugins for each report.
    (tmp_path / "tests" / "other").mkdir()
    (tmp_path / "tests" / "other" / "conftest.py").write_text("def pytest_collectreport(report): pass\n")
    (tmp_path / "conftest.py").write_text(
        "from tests import skips\n"
        "def pytest_addoption(parser): skips.add_option(parser)\n"
        "def pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'): skips.register(config)\n"
    )
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {ROOT}\naddopts = --import-mode=importlib\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", OPTION, "-n", workers, "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    assert (f"tests/limits/test_budget_store.py::test_it: {reason}" in done.stdout) == bool(status)
