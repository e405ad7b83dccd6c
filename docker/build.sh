#!/usr/bin/env bash
# docker/build.sh [TAG]: makes the image from a static binary that is built on this host, and pulls nothing. Needs Rust,
# gcc and Docker from 20.10 on. BINARY=FILE takes a static binary that is there already, and REVISION=COMMIT says of what it is.

set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:-pilothouse:dev}
binary=$(docker/packages/binary.sh)
rm -rf docker/bin/root
mkdir -p docker/bin/root/{authority,data,tls,run/pilothouse}
# Without symbols it is a quarter smaller; a panic still says its file and line.
install -m 755 --strip "$binary" docker/bin/pilothouse
docker build --quiet --file docker/Dockerfile --target given --tag "$tag" \
    --build-arg VERSION="$("$binary" --version | sed 's/^pilothouse //')" \
    --build-arg REVISION="${REVISION:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}" . >/dev/null
printf '%s  %d bytes\n' "$tag" "$(docker image inspect --format '{{.Size}}' "$tag")"
