#!/bin/sh
# The bundle of examples/runc, run by gVisor:
#
#   examples/gvisor/run.sh BUNDLE NAME
#
# --network=none leaves the loopback alone; --host-uds=open lets the container connect to sockets that are mounted into it, and make none.
set -eu

bundle=${1:?the bundle that examples/runc/bundle.py wrote}
name=${2:?a name for the container}
command -v runsc >/dev/null || { echo "run.sh: runsc is missing: https://gvisor.dev/docs/user_guide/install/" >&2; exit 2; }
exec runsc --network=none --host-uds=open run --bundle "$bundle" "$name"
