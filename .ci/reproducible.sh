#!/usr/bin/env bash
# reproducible.sh: makes the release archive of HEAD twice from nothing, in folders and with cargo homes of their own, and
# fails unless both are the same to the byte. Two whole builds; leaves nothing behind.

set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset BINARY CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR RUSTFLAGS SOURCE_DATE_EPOCH
# Commits may come while it runs.
commit=$(git rev-parse HEAD)
registry=${CARGO_HOME:-$HOME/.cargo}/registry
cargo fetch --locked

# made_in PLACE: the archive of a clone in that folder, with the crates unpacked anew.
made_in() {
    local place=$folder/$1
    mkdir -p "$place/cargo/registry"
    cp -r "$registry/index" "$registry/cache" "$place/cargo/registry/"
    # Where a mirror is configured, crates come from there.
    for file in config config.toml; do
        [[ ! -f $registry/../$file ]] || cp "$registry/../$file" "$place/cargo/"
    done
    git clone --quiet --no-checkout . "$place/source"
    git -C "$place/source" checkout --quiet "$commit"
    CARGO_HOME=$place/cargo CARGO_NET_OFFLINE=true "$place/source/docker/packages/archive.sh" "$place/out"
}

one=$(made_in a)
two=$(made_in another/one-with-a-longer-name)
if ! cmp "$one" "$two"; then
    mkdir "$folder/one" "$folder/two"
    tar --extract --file "$one" --directory "$folder/one"
    tar --extract --file "$two" --directory "$folder/two"
    diff --recursive --brief "$folder/one" "$folder/two" || true
    # What is usually behind it: somebody's folder in the binary.
    diff <(strings "$folder"/one/*/pilothouse) <(strings "$folder"/two/*/pilothouse) | sed -n 1,20p || true
    echo "==> FAILED: two builds of $commit are not the same" >&2
    exit 1
fi
sha256sum "$one" | sed "s|  .*/|  |"
