"""An evaluation of inspect_ai with one tool; prints the last text."""

# It runs in an environment of its own, which the checkers of ours do not see.
# mypy: disable-error-code="import-not-found,untyped-decorator"
# pyright: basic, reportMissingImports=false

from pathlib import Path
from typing import Any

import inspect_ai
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool


def write(text: str) -> None:
    with Path("marker.txt").open("a") as file:
        file.write(text)


@tool(name="write_marker")
def write_marker() -> Any:
    async def execute(text: str) -> str:
        """Writes a text into the marker file.

        Args:
            text: what is written.
        """
        write(text)
        return f"wrote {len(text)} characters"

    return execute


@task
def marker() -> Task:
    return Task(
        dataset=[Sample(input="Write the marker.", target="modelplex-äöü-done.")],
        solver=[use_tools(write_marker()), generate()],
        scorer=includes(),
    )


[log] = inspect_ai.eval(marker(), model="openai/my-model", display="none")
assert log.status == "success", log.error
print(log.samples[0].output.completion)
