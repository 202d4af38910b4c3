"""Commands that print credentials, run by the launcher."""

from __future__ import annotations

import sys

from .conftest import Confined

RUN = """
from modelplex.confinement.key_commands import LauncherCommands
from modelplex.credentials.source import CredentialError
import uvloop
words = tuple(word.reveal() for word in config.providers[1].api_key[0].words)
said = []
async def fetch():
    return (await LauncherCommands(launcher)(words, failed=said.append)).decode()
def run(loop):
    with asyncio.Runner(loop_factory=loop) as runner:
        try:
            return runner.run(fetch())
        except CredentialError as error:
            return str(error)
tell([run(uvloop.new_event_loop), run(asyncio.new_event_loop), said])
"""


def provider(code: str) -> str:
    return f'[[providers]]\ntype = "openai"\nname = "a"\napi_key = "command:{sys.executable} -c \'{code}\'"\n'


def test_a_command_prints_a_key_on_either_loop(confined: Confined) -> None:
    (told,) = confined(
        RUN,
        text=provider(
            "import os; print(os.environ.get(str().join([chr(80),chr(65),chr(84),chr(72)])) is not None)"
        ),
    )
    assert told == ["True\n", "True\n", []]


def test_a_command_that_fails_is_reported(confined: Confined) -> None:
    (told,) = confined(RUN, text=provider("import sys; sys.exit(sys.stderr.write(chr(110)+chr(111)))"))
    program = sys.executable.rpartition("/")[2]
    sentence = f"the key command {program} ended with the status 2"
    assert told == [sentence, sentence, ["no", "no"]]


def test_a_command_that_does_not_exist_is_named(confined: Confined) -> None:
    text = '[[providers]]\ntype = "openai"\nname = "a"\napi_key = "command:no-such-program key"\n'
    (told,) = confined(RUN, text=text)
    assert told[0] == "the key command no-such-program cannot be started: No such file or directory"


def test_a_fetch_that_is_cancelled_kills_the_command(confined: Confined) -> None:
    (told,) = confined(
        RUN.rpartition("tell(")[0]
        + """
async def cancelled():
    task = asyncio.create_task(fetch())
    while not started:
        await asyncio.sleep(0.01)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return await asyncio.to_thread(started[0].child.wait)
started = []
output = launcher.output
launcher.output = lambda words: started.append(output(words)) or started[-1]
tell(asyncio.run(cancelled()))
""",
        text=provider("import time; time.sleep(600)"),
    )
    assert told == -9
