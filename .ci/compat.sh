#!/usr/bin/env bash
# compat.sh [newest]: builds each older Pilothouse that tests/compat/builds.txt names, or the newest of them, from its own
# sources into target/compat/COMMIT/pilothouse; target/compat/newest is the last one. What is there already is not built.
#
# They are built in a target directory of their own: cargo would put an older `pilothouse` where this build's own has to
# be, and a test would take one for the other. What the builds of this clone have compiled of the same dependencies is
# linked into it, so that on a warm clone the crate itself is all that is compiled.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

LIST=tests/compat/builds.txt
TARGET=${CARGO_TARGET_DIR:-target}
ROOM=$TARGET/compat

fail() {
    echo "==> FAILED: $*" >&2
    exit 1
}

# ancestor COMMIT: it is here, and this state came from it.
ancestor() {
    git cat-file -e "$1^{commit}" 2>/dev/null && git merge-base --is-ancestor "$1" HEAD
}

# present COMMIT: the same, with the history that a shallow clone lacks, where it can be had.
present() {
    ancestor "$1" && return
    [[ $(git rev-parse --is-shallow-repository) != true ]] || git fetch --quiet --unshallow || true
    ancestor "$1" && return
    [[ $(git rev-parse --is-shallow-repository) != true ]] \
        || fail "commit $1 of $LIST is not in this shallow clone: run 'git fetch --unshallow', and try again"
    fail "commit $1 of $LIST is no ancestor of HEAD: name one of this project's own earlier states"
}

# seed: dependencies that were compiled already. Only a matter of time: what does not fit is compiled again. The
# libraries are links, since rustc replaces its outputs and never writes into them; what cargo rewrites is copied.
seed() {
    [[ -d $TARGET/debug/deps && ! -d $ROOM/build ]] || return 0
    rm -rf "$ROOM/build.new"
    mkdir -p "$ROOM/build.new/debug/deps"
    cp -a "$TARGET/debug/.fingerprint" "$TARGET/debug/build" "$ROOM/build.new/debug/"
    find "$TARGET/debug/deps" -type f ! -name '*pilothouse*' \( -name 'lib*' -o -name '*.d' \) -print0 \
        | xargs -0 cp -al -t "$ROOM/build.new/debug/deps"
    rm -rf "$ROOM"/build.new/debug/.fingerprint/pilothouse-* "$ROOM"/build.new/debug/build/pilothouse-*
    mv "$ROOM/build.new" "$ROOM/build"
}

# build COMMIT VERSION
build() {
    local home=$ROOM/$1 built=$ROOM/build/debug/pilothouse
    rm -rf "$ROOM/source"
    mkdir -p "$ROOM/source" "$home"
    git archive "$1" | tar -x -C "$ROOM/source"
    # Nobody debugs it or builds it a second time.
    env -u CARGO_BUILD_TARGET CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=false cargo build --locked --bin pilothouse \
        --manifest-path "$ROOM/source/Cargo.toml" --target-dir "$ROOM/build"
    [[ $("$built" --version) == "pilothouse $2" ]] || fail "commit $1 builds $("$built" --version), $LIST says $2"
    cp "$built" "$home/pilothouse.new"
    # It has its name when it is whole and is what it should be.
    mv "$home/pilothouse.new" "$home/pilothouse"
    rm -rf "$ROOM/source"
}

git rev-parse --is-inside-work-tree >/dev/null 2>&1 || fail "older builds come out of git, and this is no clone: clone it"
mkdir -p "$ROOM"
exec 9>"$ROOM/lock"
flock 9
mapfile -t lines < <(grep -v -e '^#' -e '^$' "$LIST")
((${#lines[@]} > 0)) || fail "$LIST names no build"
for line in "${lines[@]}"; do
    present "${line%% *}"
done
[[ ${1:-} != newest ]] || lines=("${lines[-1]}")
for line in "${lines[@]}"; do
    read -r commit version _ <<<"$line"
    if [[ ! -x $ROOM/$commit/pilothouse ]]; then
        echo "==> building pilothouse $version of commit $commit"
        seed
        build "$commit" "$version"
    fi
    ln -sfn "$commit" "$ROOM/newest"
    echo "$ROOM/$commit/pilothouse"
done
rm -rf "$ROOM/build"
