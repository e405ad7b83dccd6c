#!/usr/bin/env bash
# docker/packages/archive.sh [OUT]: makes OUT/pilothouse-VERSION-TARGET.tar.gz, with its SHA256SUMS beside it, and prints
# its path. OUT is target/packages unless it is given. Needs Rust, gcc and Python; BINARY=FILE takes a static binary that
# is there already.
#
# The same commit gives the same bytes: names are sorted, owners and modes are fixed, and every time is that of the
# commit. SOURCE_DATE_EPOCH=SECONDS takes another time, as sources without git need.

set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
umask 022
mkdir -p "${1:-$(dirname "$0")/../../target/packages}"
out=$(realpath -e "${1:-$(dirname "$0")/../../target/packages}")
cd "$(dirname "$0")/../.."

source docker/packages/epoch.sh
binary=$(docker/packages/binary.sh)
version=$(sed -n '0,/^version = "\(.*\)"/s//\1/p' Cargo.toml)
said=$(timeout 10 "$binary" --version)
if [[ $said != "pilothouse $version" ]]; then
    echo "error: $binary says that it is $said, and these sources are of $version" >&2
    echo "hint: leave BINARY out, and it is built from these sources" >&2
    exit 1
fi

name=pilothouse-$version-${CARGO_BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
top=$staging/$name
mkdir "$top"
install -m 755 --strip "$binary" "$top/pilothouse"
docker/packages/share.sh "$binary" "$top"
python3 docker/packages/sbom.py >"$top/pilothouse.cdx.json"
# The protocol is for whoever writes a router of their own.
install -D -m 644 -t "$top/proto" proto/router.proto
install -m 644 -t "$top" README.md
if [[ -d docker/packages/systemd ]]; then
    cp -r docker/packages/systemd "$top/systemd"
fi

tar --create --directory "$staging" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
    --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' "$name" | gzip -9 --no-name >"$staging/$name.tar.gz"
mv "$staging/$name.tar.gz" "$out/"
(cd "$out" && sha256sum "pilothouse-$version"-*.tar.gz >SHA256SUMS)
echo "$out/$name.tar.gz"
