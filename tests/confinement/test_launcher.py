"""What the launcher does for its gateway, and what it refuses a gateway that was taken over."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from modelplex.config import Config
from modelplex.confinement.launcher import Launcher
from modelplex.confinement.launcher_client import LauncherClient
from modelplex.confinement.messages import MAX_PACKET, CheckSocket, LauncherRefused

from .conftest import Confined

ECHO = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
SERVER = f"""
[mcp]
enabled = true
[[mcp.servers]]
name = "echo"
command = "{sys.executable}"
args = ["-c", '''{ECHO}''']
"""
COMMAND = """
from modelplex.confinement.launcher_client import LauncherProcesses
from modelplex.confinement.messages import *
from modelplex.mcp.servers.connect import server_command
command = server_command(config.mcp.servers[0], os.environ)
table = os.urandom(8).hex()
processes = LauncherProcesses(launcher, table)
def spawn(table=table):
    mark = f"{table}-1-"
    return processes.spawn(command.argv, env=command.env, cwd=command.cwd, mark=mark)
"""


def test_a_tool_server_is_started_used_found_and_killed(confined: Confined) -> None:
    told = confined(
        COMMAND
        + """
server = spawn()
os.write(server.stdin, b"hello\\n")
tell(os.read(server.stdout, 100).decode())
found = processes.find(server.mark, server.child.pid, {})
tell([list(found) == [server.child.pid], processes.alive(found) == found, server.child.poll()])
processes.signal(signal.SIGTERM, found)
import select
select.select([server.ended], [], [])
tell(server.child.poll())
processes.ended(server.child.pid)
tell(processes.find(server.mark, server.child.pid, {}))
""",
        text=SERVER,
    )
    assert told == ["HELLO\n", [True, True, None], -15, {}]


def test_a_group_is_signalled_and_waited_for(confined: Confined) -> None:
    told = confined(
        COMMAND
        + """
server = spawn()
server.child.signal_group(signal.SIGKILL)
tell(server.child.wait())
server.child.signal_group(signal.SIGKILL)
""",
        text=SERVER,
    )
    assert told == [-9]


def test_closing_a_table_kills_what_it_started_and_no_other(confined: Confined) -> None:
    told = confined(
        COMMAND
        + """
other = LauncherProcesses(launcher, table + "2")
one, two = spawn(), spawn(table + "2")
other.close()
tell([two.child.wait(), one.child.poll()])
processes.close()
tell(one.child.wait())
""",
        text=SERVER,
    )
    assert told == [[-9, None], -9]


def test_nothing_is_started_signalled_or_opened_that_the_config_does_not_have(confined: Confined) -> None:
    (told,) = confined(
        COMMAND
        + """
server = spawn()
other = {os.getppid(): "1"}
tell([
    refused(lambda: processes.spawn(["/bin/sh", "-c", "id"], env={}, cwd=None, mark=f"{table}-2-")),
    refused(lambda: processes.spawn(command.argv, env={**command.env, "LD_PRELOAD": "x"}, cwd=None, mark=f"{table}-2-")),
    refused(lambda: launcher.output(["id"])),
    refused(lambda: launcher.output(command.argv)),
    refused(lambda: launcher.connect("/var/run/docker.sock")),
    refused(lambda: launcher.ask(BindSocket("/tmp/other.sock", 0o600, None))),
    refused(lambda: launcher.ask(UnlinkSocket("/etc/passwd", (1, 2)))),
    refused(lambda: processes.signal(signal.SIGKILL, other)),
    processes.find("", os.getppid(), {}) == {},
    processes.find("MODELPLEX", 1, {}) == {},
])
""",
        text=SERVER,
    )
    assert told == ["EPERM"] * 7 + ["done", True, True]


def test_what_is_no_request_is_answered_with_an_error(confined: Confined) -> None:
    told = confined(
        """
from modelplex.confinement.messages import REPLIES, receive
end = launcher._end
end.send(b"not json")
tell(type(REPLIES.decode(receive(end)[0])).__name__)
end.send(b'{"type":"start","key":1}')
tell(type(REPLIES.decode(receive(end)[0])).__name__)
tell(launcher.load().path == path)
"""
    )
    assert told == ["LauncherFailed", "LauncherFailed", True]


def test_a_socket_of_the_config_is_connected_to(confined: Confined, tmp_path: Path) -> None:
    path = tmp_path / "model.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        text = f'[[providers]]\ntype = "openai"\nname = "a"\nbase_url = "unix:{path}:/v1"\n'
        told = confined(f"tell(launcher.connect({str(path)!r}).getpeername())", text=text)
    assert told == [str(path)]


@pytest.mark.parametrize("how", ["launcher.load()", "launcher.reread()"])
def test_a_config_that_was_loaded_again_permits_its_commands_alone(confined: Confined, how: str) -> None:
    """And not before: a program may write to the file, and the gateway decides when it is read."""
    (told,) = confined(
        f"""
old, new = (lambda: launcher.output(["sleep", "1"])), (lambda: launcher.output(["sleep", "2"]))
before = [refused(old), refused(new)]
{how}
tell([*before, refused(old), refused(new)])
""",
        text='[[providers]]\ntype = "openai"\nname = "a"\napi_key = "command:sleep 1"\n',
        later='[[providers]]\ntype = "openai"\nname = "a"\napi_key = "command:sleep 2"\n',
    )
    assert told == ["done", "EPERM", "EPERM", "done"]


def test_a_gateway_without_descriptors_is_told_so_and_nothing_is_left(confined: Confined) -> None:
    told = confined(
        COMMAND
        + """
import resource, time
def count():
    return len(os.listdir("/proc/self/fd"))
first = spawn()
before = count()
used = set(map(int, os.listdir("/proc/self/fd")))
free = [number for number in range(1000) if number not in used or not os.path.exists(f"/proc/self/fd/{number}")]
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
for room in range(5):
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[room], most))
    tell(refused(spawn))
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
left = count()
while list(processes.find(first.mark, first.child.pid, {})) != [first.child.pid]:  # the killed ones end soon
    time.sleep(0.01)
tell([left == before])
""",
        text=SERVER,
    )
    assert set(told[:-1]) == {"EMFILE"}
    assert told[-1] == [True]


def test_a_reply_that_cannot_be_sent_is_an_error() -> None:
    """Otherwise the gateway waits for ever."""
    config = Config()
    config = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, admin_socket="a"))
    refused = LauncherRefused("x" * MAX_PACKET)
    launcher = Launcher(config, environ={}, load=None, do_socket=lambda _: (refused, ()))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        thread = threading.Thread(target=launcher.serve, args=(theirs,))
        thread.start()
        with ours, pytest.raises(OSError, match="Message too long"):
            LauncherClient(ours).ask(CheckSocket("b"))
        thread.join()
