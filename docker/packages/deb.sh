#!/usr/bin/env bash
# docker/packages/deb.sh BINARY OUT: makes OUT/pilothouse_VERSION_ARCH.deb from a static binary of this checkout, which is
# built before. The same binary makes the same bytes. Needs cargo-deb, dpkg and what share.sh needs; DEB_VERSION=1.2.3-1
# gives it another version.

set -euo pipefail
(($# == 2)) || { echo "usage: docker/packages/deb.sh BINARY OUT" >&2; exit 2; }
binary=$(realpath -e "$1")
mkdir -p "$2"
out=$(realpath -e "$2")
cd "$(dirname "$0")/../.."
source docker/packages/epoch.sh

# It has to be static.
BINARY=$binary docker/packages/binary.sh >/dev/null
cargo deb --version >/dev/null 2>&1 || { echo "error: cargo-deb is missing: cargo install --locked cargo-deb" >&2; exit 1; }
crate_version=$(sed -n '0,/^version = "\(.*\)"/s//\1/p' Cargo.toml)
version=${DEB_VERSION:-$crate_version-1}

# Everything that Cargo.toml's list of assets names and the repository does not have.
stage=target/deb
rm -rf "$stage"
mkdir -p "$stage/examples"
docker/packages/share.sh "$binary" "$stage"
install -m 755 --strip "$binary" "$stage/pilothouse"

# replaced FILE PATTERN REPLACEMENT: the line has to be there.
replaced() {
    grep -q "^$2\$" "$1" || { echo "error: the example $1 has no line $2 any more; adapt docker/packages/deb.sh" >&2; exit 1; }
    sed -i "s|^$2\$|$3|" "$1"
}
for kind in controller router; do
    example=$stage/examples/$kind.toml
    "$binary" "$kind" example-config >"$example"
    replaced "$example" 'data_dir = ".*"' "data_dir = \"/var/lib/pilothouse/$kind\""
    replaced "$example" 'dir = "/etc/pilothouse/tls"' "dir = \"/etc/pilothouse/tls/$kind\""
done
replaced "$stage/examples/controller.toml" '#admin_socket = \(".*"\)' 'admin_socket = \1'
replaced "$stage/examples/router.toml" '#json_file = ".*"' '#json_file = "/run/pilothouse-router/controllers.json"'

{
    cat docker/packages/debian/copyright.head
    sed 's/^$/./; s/^/ /' LICENSE
} >"$stage/copyright"
cat >"$stage/changelog" <<END
pilothouse ($version) stable; urgency=medium

  * Version $crate_version. README.md says what it is; the upgrades that it allows stand there too.

 -- $(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)  $(date --utc --rfc-email --date "@$SOURCE_DATE_EPOCH")
END
find "$stage" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +

# Nothing is built or looked up here: assets alone.
cargo deb --quiet --no-build --no-strip --compress-system --deb-version "$version" --output "$out/" >/dev/null
rm -rf "$stage"
ls "$out/pilothouse_${version}_"*.deb
