#!/usr/bin/env bash
# docker/packages/share.sh BINARY OUT: writes what comes with the binary, for every kind of package:
#
#   OUT/completions   pilothouse.bash, _pilothouse (zsh), pilothouse.fish
#   OUT/man           a manual page for each command
#   OUT/licences      ours, those of every crate in the binary, of Rust's standard library and of the C library
#
# Needs the toolchain that built the binary, with the sources of the crates, and Python.

set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
(($# == 2)) || { echo "usage: docker/packages/share.sh BINARY OUT" >&2; exit 2; }
binary=$(realpath -e "$1")
mkdir -p "$2"
out=$(realpath -e "$2")
cd "$(dirname "$0")/../.."
source docker/packages/epoch.sh

mkdir -p "$out"/{completions,licences}
for script in bash:pilothouse.bash zsh:_pilothouse fish:pilothouse.fish; do
    timeout 10 "$binary" completions "${script%%:*}" >"$out/completions/${script#*:}"
done
timeout 10 "$binary" man --dir "$out/man"

cp LICENSE "$out/licences/LICENSE"
python3 docker/packages/licences.py >"$out/licences/THIRD-PARTY.txt"
# What is linked in and is no crate: the standard library with what it contains, and the C library.
standard=$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html
[[ -f $standard ]] || {
    echo "error: the toolchain has no $standard, the licences of Rust's standard library" >&2
    echo "hint: install the toolchain with rustup, or from its release archive" >&2
    exit 1
}
cp "$standard" "$out/licences/rust-standard-library.html"
cp docker/packages/licences/LGPL-2.1.txt "$out/licences/glibc-LGPL-2.1.txt"
find "$out"/{completions,man,licences} -type f -exec chmod 644 {} +
