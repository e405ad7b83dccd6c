# shellcheck shell=bash
# What .ci/run and .ci/long share: stages with a name, a time limit and a timing, and tools that are installed when
# they are missing. Sourced, never run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
export CI=true CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never RUST_BACKTRACE=1 PYTHONDONTWRITEBYTECODE=1

TIMINGS=()
NOT_RUN=()
BEGAN=$SECONDS

# stage NAME MINUTES COMMAND...: runs it, and ends everything when it fails or takes longer.
stage() {
    local name=$1 minutes=$2 began=$SECONDS status=0
    shift 2
    printf '\n==> %s: %s\n' "$name" "$*"
    timeout --kill-after=30 "${minutes}m" "$@" || status=$?
    local took="$((SECONDS - began)) s"
    if ((status != 0)); then
        printf '\n==> FAILED: %s after %s (exit %d%s)\n' "$name" "$took" "$status" \
            "$( ((status == 124)) && echo ", limit $minutes min" || true)" >&2
        exit 1
    fi
    TIMINGS+=("$(printf '%-14s %7s' "$name" "$took")")
}

# not_run NAMES WHY: what this machine cannot run, named at the end.
not_run() { NOT_RUN+=("$1 ($2)"); }

# summary: what ran, how long it took, and what did not run.
summary() {
    printf '\n'
    printf '    %s\n' "${TIMINGS[@]}"
    printf '==> all %d stages passed in %d s\n' "${#TIMINGS[@]}" "$((SECONDS - BEGAN))"
    ((${#NOT_RUN[@]} == 0)) || printf '==> NOT RUN: %s\n' "${NOT_RUN[@]}"
}

# has_containers: whether a Docker daemon answers, and a Compose is there.
has_containers() {
    command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1 \
        && { docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null; }
}

# need COMMAND PACKAGE: the command, installed from the distribution when it is missing.
need() {
    command -v "$1" >/dev/null && return
    from_distribution "$1" "$2"
    command -v "$1" >/dev/null || { echo "==> FAILED: $2 brought no $1" >&2; exit 1; }
}

# need_module MODULE PACKAGE: the same for a module of the distribution's Python.
need_module() {
    python3 -c "import $1" 2>/dev/null && return
    from_distribution "$1" "$2"
    python3 -c "import $1" || { echo "==> FAILED: $2 brought no $1" >&2; exit 1; }
}

# from_distribution WHAT PACKAGE: installs the package, for the sake of what is in it.
from_distribution() {
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    echo "==> installing $2 for $1"
    "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" \
        || { echo "==> FAILED: $1 is missing and $2 could not be installed" >&2; exit 1; }
}

# need_component NAME: a part of the Rust toolchain.
need_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    rustup component add "$2" || { echo "==> FAILED: cargo $1 is missing; install the toolchain's $2" >&2; exit 1; }
}

# readme_command MARK: the command in the README's code block that follows `<!-- ci: MARK -->`.
readme_command() {
    local command
    command=$(awk -v mark="<!-- ci: $1 -->" '
        $0 == mark { marked = 1; next }
        marked && /^```/ { if (inside) exit; inside = 1; next }
        marked && inside { print }' README.md)
    [[ -n $command && $command != *$'\n'* ]] \
        || { echo "==> FAILED: README.md must have one command after <!-- ci: $1 -->" >&2; exit 1; }
    printf '%s\n' "$command"
}
