#!/usr/bin/env bash
# archive.sh BINARY: the release archive of a binary of this build: packed twice to the same bytes, unpacked, and each of
# its parts used by whatever it is for. Leaves nothing behind.

source "$(dirname "$0")/stages.sh"

need mandoc mandoc
need man man-db
need fish fish
need zsh zsh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed() { echo "==> FAILED: $*" >&2; exit 1; }

# Another mask, another hour, another time zone and another language: nothing of that may get in.
archive=$(BINARY=$1 docker/packages/archive.sh "$folder/one")
again=$(umask 077 && BINARY=$1 TZ=Asia/Kolkata LC_ALL=C.UTF-8 docker/packages/archive.sh "$folder/two")
cmp "$archive" "$again" || failed "the same binary was packed into two different archives"
(cd "$folder/two" && sha256sum --check --quiet SHA256SUMS)

tar --extract --gzip --file "$archive" --directory "$folder"
top=$folder/$(basename "$archive" .tar.gz)
[[ "$(timeout 10 "$top/pilothouse" --version)" == "$(timeout 10 "$1" --version)" ]] || failed "another binary was packed"

pages=("$top"/man/*.1)
mandoc -T lint -W warning "${pages[@]}" || failed "mandoc finds fault with the manual"
shown=$(MANWIDTH=100 MANPAGER=cat man --local-file "$top/man/pilothouse-cluster-status.1")
[[ $shown == *"EXIT STATUS"* ]] || failed "man shows no page"

# What each shell offers after `pilothouse cluster `. (No pipes into `grep -q`: it ends them before they have ended.)
# shellcheck disable=SC2016 # the inner shell expands it
offered=$(timeout 10 bash --norc -c 'source "$1"; COMP_WORDS=(pilothouse cluster ""); COMP_CWORD=2
    _pilothouse pilothouse "" cluster; printf " %s " "${COMPREPLY[@]}"' - "$top/completions/pilothouse.bash")
[[ $offered == *" transfer "* ]] || failed "bash completes nothing: $offered"
offered=$(timeout 10 fish --no-config --command \
    "source '$top/completions/pilothouse.fish'; complete --do-complete 'pilothouse cluster '")
[[ $offered == *transfer* ]] || failed "fish completes nothing: $offered"
zsh -f -n "$top/completions/_pilothouse" || failed "zsh cannot read its completions"

python3 -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    --requirement .ci/archive.txt || failed "pip could not install .ci/archive.txt"
timeout --kill-after=5 60 "$folder/environment/bin/python" .ci/archive.py "$top"
