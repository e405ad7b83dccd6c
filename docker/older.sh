#!/usr/bin/env bash
# docker/older.sh TAG: makes an image with the newest of the older builds that tests/compat/builds.txt names, compiled from its own
# sources out of the history of this clone. Needs what docker/build.sh needs, and minutes.

set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:?usage: docker/older.sh TAG}
read -r commit version _ < <(grep -v -e '^#' -e '^$' tests/compat/builds.txt | tail -1)
git cat-file -e "$commit^{commit}" 2>/dev/null || {
    echo "error: commit $commit, Pilothouse $version, is not in this clone" >&2
    echo "hint: a shallow clone gets its history with \`git fetch --unshallow\`" >&2
    exit 1
}
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
git archive "$commit" | tar -x -C "$source"
# A target directory of its own: cargo would put the older binary where the one of today has to be.
room=$PWD/target/older
cargo fetch --quiet --locked --manifest-path "$source/Cargo.toml"
source docker/packages/flags.sh
cargo build --quiet --locked --release --bin pilothouse --manifest-path "$source/Cargo.toml" --target-dir "$room"
BINARY=$room/$CARGO_BUILD_TARGET/release/pilothouse REVISION=$commit docker/build.sh "$tag"
