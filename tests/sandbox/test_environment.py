"""The environment of a sandboxed program."""

from __future__ import annotations

from modelplex.sandbox.environment import NODE, POINTED, PYTHON, environment
from tests.sandbox.sandboxes import SECRET, Person


def test_a_variable_passes_where_it_is_named(me: Person) -> None:
    code = (
        "import os; print(os.environ.get('MY_API_KEY'), os.environ.get('MINE'), os.environ['OPENAI_API_KEY'])"
    )
    assert me.python(code).stdout == "None None unused\n"
    done = me.python(code, "--env", "MY_API_KEY", "--env", "MINE=a=b", "--env", "OPENAI_API_KEY=x")
    assert done.stdout == f"{SECRET} a=b x\n"


HOST = {
    "PATH": "/bin",
    "LC_TIME": "C",
    "OPENAI_API_KEY": "sk-of-the-host",
    "HTTPS_PROXY": "http://proxy",
    "DOCKER_HOST": "unix:///var/run/docker.sock",
    "PYTHONPATH": "/mine",
    "NODE_OPTIONS": "--mine",
    "SHARED": "yes",
}


def test_only_listed_variables_pass() -> None:
    made = environment(HOST, has_python=False, has_node=False)
    assert made == {"PATH": "/bin", "LC_TIME": "C", **POINTED, "TMPDIR": "/tmp"}


def test_named_variables_override_everything() -> None:
    named = ["SHARED", "ABSENT", "OPENAI_API_KEY=a=b", "TMPDIR=/x", "EMPTY="]
    made = environment(HOST, named=named, has_python=False, has_node=False)
    assert (made["SHARED"], made["OPENAI_API_KEY"], made["TMPDIR"], made["EMPTY"]) == ("yes", "a=b", "/x", "")
    assert "ABSENT" not in made


def test_python_and_node_get_their_files_beside_named_settings() -> None:
    made = environment(HOST, has_python=True, has_node=True)
    assert (made["PYTHONPATH"], made["NODE_OPTIONS"]) == (PYTHON, f"--import={NODE}")
    made = environment(HOST, named=["PYTHONPATH", "NODE_OPTIONS"], has_python=True, has_node=True)
    assert (made["PYTHONPATH"], made["NODE_OPTIONS"]) == (f"{PYTHON}:/mine", "--mine")
