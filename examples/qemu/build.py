"""Builds the initramfs of the example: a kernel's few modules, busybox, this Python with OpenAI's
client, the multiplexer and the agent. Standard library alone.

    python build.py --kernel EXTRACTED_PACKAGE --busybox /bin/busybox --agent ../hello.py --output
    initramfs.cpio

Run it with the Python whose packages the guest is to have. It is not compressed, since inflating it
takes an emulated machine longer than loading it.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.metadata
import os
import py_compile
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

HERE = Path(__file__).resolve().parent
MULTIPLEX = HERE.parent.parent / "src" / "modelplex" / "sandbox" / "multiplex.py"

MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_console",
)
"""In the order in which they need each other. There is no virtio_net: the guest has no driver for a
network card either.
"""

LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "config-*",
    "*.a", "_test*.so", "_tkinter*",
)  # fmt: skip

INIT = """#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
for module in {modules}; do
    busybox insmod "/modules/$module.ko" 2>/dev/null
done
export PYTHONHOME=/usr PYTHONPATH=/packages LD_LIBRARY_PATH=/libraries HOME=/tmp PATH=/usr/bin
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export OPENAI_BASE_URL=http://127.0.0.1:11435/v1 OPENAI_API_KEY=unused MODEL={model}
python3 /multiplex.py --link /dev/vport0p1 --listen 127.0.0.1:11435 -- python3 /agent.py
echo "the agent ended with status $?"
busybox reboot -f
"""


def closure(name: str) -> dict[str, importlib.metadata.Distribution]:
    """A package and all that it needs."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = [name]
    while wanted:
        each = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if each in found:
            continue
        try:
            found[each] = importlib.metadata.distribution(each)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system or an older Python
        needs = [needed for needed in found[each].requires or [] if "extra ==" not in needed]
        wanted += [re.split(r"[^A-Za-z0-9._-]", needed, maxsplit=1)[0] for needed in needs]
    return found


def libraries(of: list[Path]) -> set[Path]:
    """The shared libraries that these need, the loader among them."""
    said = subprocess.run(["ldd", *map(str, of)], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", said)}


def fill(root: Path, *, kernel: Path, busybox: Path, agent: Path, model: str) -> None:
    for name in (
        "proc",
        "sys",
        "dev",
        "tmp",
        "bin",
        "modules",
        "libraries",
        "packages",
        "usr/bin",
        "usr/lib",
        "lib64",
    ):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    for name in MODULES:
        for file in kernel.rglob(f"{name}.ko"):
            shutil.copy(file, root / "modules")
    stdlib = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(stdlib, root / "usr" / "lib" / stdlib.name, ignore=LEFT_OUT)
    shutil.copy(Path(sys.executable).resolve(), root / "usr" / "bin" / "python3")
    for package in closure("openai").values():
        for inside in package.files or []:
            source, target = Path(str(package.locate_file(inside))), root / "packages" / inside
            if inside.suffix != ".pyc" and ".." not in inside.parts and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    for library in libraries([Path(sys.executable).resolve(), *root.rglob("*.so")]):
        shutil.copy(library, root / ("lib64" if library.name.startswith("ld-linux") else "libraries"))
    compileall.compile_dir(root, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    shutil.copy(MULTIPLEX, root / "multiplex.py")
    shutil.copy(agent, root / "agent.py")
    (root / "init").write_text(INIT.format(modules=" ".join(MODULES), model=model))
    (root / "init").chmod(0o755)


def entries(root: Path) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and content of each file; folders before what is in them."""
    yield "dev/console", stat.S_IFCHR | 0o600, b""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_dir():
            yield name, stat.S_IFDIR | 0o755, b""
        else:
            yield name, stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644), path.read_bytes()


def write(target: BinaryIO, root: Path) -> None:
    """A cpio archive of the form that the kernel reads, "newc"."""
    made = list(entries(root))
    made[0], made[1:] = (
        ("dev", stat.S_IFDIR | 0o755, b""),
        [made[0], *(each for each in made[1:] if each[0] != "dev")],
    )
    for number, (name, mode, data) in enumerate([*made, ("TRAILER!!!", 0, b"")], 1):
        major, minor = (5, 1) if name == "dev/console" else (0, 0)
        written = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(written), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + written
        target.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", type=Path, required=True)
    parser.add_argument("--busybox", type=Path, default=Path("/bin/busybox"))
    parser.add_argument("--agent", type=Path, default=HERE.parent / "hello.py")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), kernel=asked.kernel, busybox=asked.busybox, agent=asked.agent, model=asked.model)
        with asked.output.open("wb") as target:
            write(target, Path(folder))


if __name__ == "__main__":
    main()
