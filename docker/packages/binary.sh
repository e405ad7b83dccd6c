#!/usr/bin/env bash
# docker/packages/binary.sh: builds the static binary of a release, and prints where it is. Needs Rust and gcc.
# BINARY=FILE takes one that is there already.

set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ -z ${BINARY:-} ]]; then
    cargo fetch --locked >&2
    source docker/packages/flags.sh
    cargo build --locked --release --bin pilothouse >&2
    BINARY=${CARGO_TARGET_DIR:-target}/$CARGO_BUILD_TARGET/release/pilothouse
fi
if [[ ! -f $BINARY ]]; then
    echo "error: there is no binary $BINARY" >&2
    echo "hint: leave BINARY out, and one is built; or name one that is there" >&2
    exit 1
fi
# What is not static starts nowhere but on a host that has its libraries.
if [[ $(readelf --program-headers "$BINARY") == *INTERP* ]]; then
    echo "error: $BINARY is not static" >&2
    echo "hint: build it with docker/packages/binary.sh, or with the flags of docker/packages/flags.sh" >&2
    exit 1
fi
realpath -e "$BINARY"
