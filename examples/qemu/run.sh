#!/bin/sh
# An agent in a virtual machine without a network device, and the gateway's socket over a serial port:
#
#   examples/qemu/run.sh SOCKET [MODEL]
#
# Needs Debian's qemu-system-x86 and busybox-static, and a Python that has openai (PYTHON=...). The kernel is Debian's too, and the only thing that is fetched; KERNEL=... is
# the folder of an extracted linux-image package instead. ACCEL=kvm is faster where /dev/kvm works; the default is emulation, which works anywhere.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
socket=$(realpath "${1:?the socket of a running gateway}")
model=${2:-demo}
python=${PYTHON:-python3}
cache=${CACHE:-$here/../../.cache/qemu}

for program in qemu-system-x86_64 busybox "$python"; do
    command -v "$program" >/dev/null || { echo "run.sh: $program is missing" >&2; exit 2; }
done
[ -S "$socket" ] || { echo "run.sh: $socket is no socket: start the gateway first" >&2; exit 2; }

mkdir -p "$cache"
kernel=${KERNEL:-$cache/kernel}
if [ ! -d "$kernel" ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
    (cd "$cache" && apt-get download "$package")
    dpkg-deb -x "$cache/$package"_*.deb "$kernel.part"
    mv "$kernel.part" "$kernel"
fi

work=$(mktemp -d)
host=
trap 'test -z "$host" || kill "$host" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

"$python" "$here/build.py" --kernel "$kernel" --busybox "$(command -v busybox)" --model "$model" --output "$work/initramfs"

# QEMU makes the channel; the host's end of the multiplexer waits for it, and dials the gateway for each connection in the guest.
"$python" "$here/../../src/modelplex/sandbox/multiplex.py" --link "$work/channel" --socket "$socket" &
host=$!

qemu-system-x86_64 -M "q35,accel=${ACCEL:-tcg}" -cpu max -m 768 -nodefaults -no-user-config -no-reboot -display none -nic none \
    -kernel "$kernel"/boot/vmlinuz-* -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1 random.trust_cpu=on" \
    -serial stdio \
    -device virtio-serial-pci -chardev "socket,id=modelplex,path=$work/channel,server=on,wait=off" \
    -device virtserialport,chardev=modelplex,name=modelplex.0 </dev/null | tee "$work/console"

grep -q "the agent ended with status 0" "$work/console"
