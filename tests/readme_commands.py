"""Stands in for the commands that the documents name and a test cannot let run as they stand:
`python readme_commands.py NAME ARGUMENTS`.

modelplex   runs for real. What serves does so on ports of the system's choice and in a folder of
            its own; once it serves, it is ended as Ctrl-C ends it
make        says what it would do, so that a target that is not there fails
docker      no daemon is asked: the options, the mounts and the image's arguments must be those of
            the Dockerfile and the command line
my-agent, kill and the like are the test's own affair and are not here
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from modelplex import command_options

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 30.0
ENDS_BY_ITSELF = {"check", "run", "runs", "usage", "mcp", "--version", "--help"}


def modelplex(arguments: list[str]) -> int:
    command = [sys.executable, "-m", "modelplex"]
    if ENDS_BY_ITSELF & set(arguments):
        return subprocess.run([*command, *arguments], check=False, timeout=WAIT_S).returncode
    if not {"--http", "--socket"} & set(arguments):
        arguments = [*arguments, "--http", ":0", "--socket", "./modelplex.socket"]
    free_ports = [re.sub(r"(.*):\d+$", r"\1:0", word) for word in arguments]
    with tempfile.TemporaryDirectory() as folder:
        if Path("config.toml").exists():
            shutil.copy("config.toml", folder)
        with subprocess.Popen(
            [*command, *free_ports], cwd=folder, stderr=subprocess.PIPE, text=True
        ) as running:
            assert running.stderr is not None
            for line in running.stderr:
                sys.stderr.write(line)
                if '"started"' in line:
                    running.send_signal(signal.SIGINT)
            return running.wait(WAIT_S)


def make(arguments: list[str]) -> int:
    options = [word.removeprefix("ARGS=") for word in arguments if word.startswith("ARGS=")]
    parsed = command_options.parse(shlex.split(" ".join(options)))
    assert parsed.command is None
    dry = ["/usr/bin/env", "make", "--dry-run", "--directory", str(ROOT), *arguments]
    environ = {**os.environ, "PATH": os.environ["REAL_PATH"]}
    return subprocess.run(dry, check=False, timeout=WAIT_S, env=environ, stdout=subprocess.DEVNULL).returncode


def docker(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="docker", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build")
    building.add_argument("-t", required=True)
    building.add_argument("folder")
    running = commands.add_parser("run")
    running.add_argument("--rm", action="store_true")
    running.add_argument("--name")
    running.add_argument("--network")
    running.add_argument("--user")
    running.add_argument("-e", action="append", default=[])
    running.add_argument("-p", action="append", default=[])
    running.add_argument("-d", action="store_true")
    running.add_argument("-v", action="append", default=[])
    running.add_argument("image")
    running.add_argument("arguments", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["modelplex"]' in dockerfile
    assert "MODELPLEX_CONFIG=/config.toml" in dockerfile
    assert "/socket /work" in dockerfile
    if asked.command == "build" or asked.image != "modelplex":
        return 0
    options = command_options.parse(asked.arguments)
    mounts = {Path(volume.split(":")[1]) for volume in asked.v}
    assert Path("/config.toml") in mounts, "the config is not where the image looks for it"
    sockets: list[str] = options.socket or []
    addresses: list[str] = options.http or []
    for path in sockets:
        assert Path(path).parent in mounts, f"{path} is in no folder that is shared"
    published = {port.rpartition(":")[2] for port in asked.p}
    if asked.network == "host":
        assert not asked.p
    elif not sockets or addresses:
        # The default port was replaced in the block, so here it is whichever one is published.
        served = {address.rpartition(":")[2] for address in addresses} or published
        assert published
        assert served <= published, "a port that is not published is reached by nobody"
        assert not any("127.0.0.1" in word for word in asked.arguments), "localhost of a container is its own"
    return 0


if __name__ == "__main__":
    sys.exit({"modelplex": modelplex, "make": make, "docker": docker}[sys.argv[1]](sys.argv[2:]))
