#!/usr/bin/env bash
# docker.sh DEMOS...: an image with a static binary of this build, its size, and these demos of docker/demos that run in it. Touches
# nothing but its own image and their own projects, and leaves nothing behind.

set -euo pipefail
cd "$(dirname "$0")/.."

# Largest image: what an edge host should not notice.
IMAGE_BYTES_MAX=25000000

image=pilothouse:dev-ci-$$
trap 'docker image rm "$image" >/dev/null 2>&1 || true' EXIT
docker/build.sh "$image"
bytes=$(docker image inspect --format '{{.Size}}' "$image")
((bytes < IMAGE_BYTES_MAX)) || { echo "==> FAILED: $image has $bytes bytes, the limit is $IMAGE_BYTES_MAX" >&2; exit 1; }
for demo in "$@"; do
    PILOTHOUSE_IMAGE=$image "docker/demos/$demo"
done
