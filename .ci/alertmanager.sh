#!/usr/bin/env bash
# alertmanager.sh BINARY: alarms of real faults against the distribution's own Alertmanager, on loopback and with a
# directory of its own; one that the system may be running is left alone. Fails when there is none: what was not tried is
# not passed.

set -euo pipefail
cd "$(dirname "$0")/.."

alertmanager=$(command -v prometheus-alertmanager) \
    || { echo "==> FAILED: there is no prometheus-alertmanager; install the package of that name" >&2; exit 1; }
timeout --kill-after=5 240 python3 tests/python/alarms.py "$1" "$alertmanager"
