"""The process of the launcher: it ends with its gateway, and holds nothing open."""

from __future__ import annotations

from .conftest import Confined
from .test_launcher import COMMAND, SERVER


def test_it_holds_no_descriptor_of_the_gateway(confined: Confined) -> None:
    (told,) = confined(
        """
from modelplex.confinement.launcher import Launcher
from modelplex.confinement.launcher_process import fork
from modelplex.server.confined import confine_process
reader, writer = os.pipe()
os.set_inheritable(writer, True)
class Told(Launcher):
    def serve(self, end):
        names = [each for each in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{each}")]
        end.send(json.dumps([int(each) for each in names if int(each) > 2] == [end.fileno()]).encode())
end = fork(lambda: Told(config, environ=os.environ, load=None, do_socket=None))
tell(json.loads(end.recv(100)))
""",
        seals=False,
        confines=False,
    )
    assert told is True


def test_what_was_started_is_killed_when_the_gateway_is(confined: Confined) -> None:
    """The pipe of the tool server ends although nobody closes it."""
    (told,) = confined(
        COMMAND
        + """
server = spawn()
# The reaper and the launcher end it; the test sees that its process is gone.
tell(server.child.pid)
os.kill(os.getpid(), signal.SIGKILL)
""",
        text=SERVER,
        status=-9,
    )
    import time
    from pathlib import Path

    deadline = time.monotonic() + 30
    while Path(f"/proc/{told}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{told}").exists()
