#!/usr/bin/env bash
# python.sh BINARY: routers written in Python, with what they need in an environment of their own, against a cluster of
# this binary. Fails when that cannot be installed: what was not tried is not passed.

set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    --requirement tests/python/requirements.txt \
    || { echo "==> FAILED: pip could not install tests/python/requirements.txt" >&2; exit 1; }
timeout --kill-after=5 60 "$environment/bin/python" tests/python/check.py "$1"
