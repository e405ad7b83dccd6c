#!/usr/bin/env bash
# How a release is compiled: sourced by whatever builds one, so that all of them build the same bytes. It exports the
# target and the flags for cargo; the crates have to be fetched before.

CARGO_BUILD_TARGET=${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
_flags=(
    # One file that needs no library of its host. Only with an explicit target do macros stay as they have to be.
    -C target-feature=+crt-static
    # Relocations in the short form are 0.8 MB less.
    -C "link-arg=-Wl,-z,pack-relative-relocs"
    # Panics name files: without the folders of whoever built it, so that the binary is the same wherever it is built.
    # Where two of these fit, the later one counts.
    "--remap-path-prefix=$PWD=."
    "--remap-path-prefix=${CARGO_TARGET_DIR:-$PWD/target}=./target"
    "--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"
)
# One folder a registry: a mirror has a name of its own.
for _folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    _flags+=("--remap-path-prefix=$_folder=/crates")
done
# The encoded form, since a folder may have a space in its name.
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${_flags[*]}")
export CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS
unset _flags _folder
