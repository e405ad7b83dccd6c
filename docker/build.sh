#!/usr/bin/env bash
# docker/build.sh [TAG]: makes the image from a static binary that is built on this host, and pulls nothing. Needs Rust,
# gcc and Docker from 20.10 on. BINARY=FILE takes a static binary that is there already,
# and REVISION=COMMIT says what it was made of.

set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:-pilothouse:dev}
if [[ -z ${BINARY:-} ]]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    # Relocations in the short form are 0.8 MB less.
    RUSTFLAGS='-C target-feature=+crt-static' cargo rustc --locked --release --target "$host" --bin pilothouse -- \
        -C link-arg=-Wl,-z,pack-relative-relocs
    BINARY=target/$host/release/pilothouse
fi
# What is not static starts nowhere but on a host that has its libraries.
if readelf --program-headers "$BINARY" | grep -q INTERP; then
    echo "error: $BINARY is not static" >&2
    echo "hint: build it with RUSTFLAGS='-C target-feature=+crt-static' and an explicit --target" >&2
    exit 1
fi
rm -rf docker/bin/root
mkdir -p docker/bin/root/{authority,data,tls,run/pilothouse}
# Without symbols it is a quarter smaller; a panic still says its file and line.
install -m 755 --strip "$BINARY" docker/bin/pilothouse
docker build --quiet --file docker/Dockerfile --target given --tag "$tag" \
    --build-arg VERSION="$("$BINARY" --version | sed 's/^pilothouse //')" \
    --build-arg REVISION="${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}" . >/dev/null
printf '%s  %d bytes\n' "$tag" "$(docker image inspect --format '{{.Size}}' "$tag")"
