"""What a run prints of that which it provides."""

from __future__ import annotations

from tests.sandbox.sandboxes import Person


def test_each_subject_is_one_line(me: Person) -> None:
    done = me.run("--time", "1h", "--allow-port", "5432", "--", "true")
    assert done.stderr == (
        "modelplex run: limits: time 1h\nmodelplex run: open: the program reaches 127.0.0.1:5432 of this machine\n"
    )
