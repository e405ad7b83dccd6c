# What the demos share: a compose project of their own that nothing remains of, steps, and waiting. Sourced, never run.
#
# PILOTHOUSE_IMAGE names an image to use; without it one is built, and removed again.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

NAME=$(basename "$0")
PROJECT=pilothouse-demo-$NAME-$$
# Longest wait for any one thing, in seconds: an election, a start and a health check fit in, on a busy machine.
WAIT_S=90
BEGAN=$SECONDS
BUILT=

if docker compose version >/dev/null 2>&1; then
    COMPOSE=(docker compose)
elif command -v docker-compose >/dev/null; then
    COMPOSE=(docker-compose)
else
    echo "error: neither docker compose nor docker-compose is installed" >&2
    exit 2
fi
docker info >/dev/null 2>&1 || { echo "error: no Docker daemon answers" >&2; exit 2; }
COMPOSE+=(--file docker/compose.yaml --project-name "$PROJECT")

compose() { "${COMPOSE[@]}" "$@"; }

# say WORDS: what happens now, and when.
say() { printf '%5d s  %s\n' "$((SECONDS - BEGAN))" "$*"; }

# fail WORDS: the demo did not show what it claims.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# until WHAT COMMAND...: looks again and again until the command succeeds.
until_so() {
    local what=$1 end=$((SECONDS + WAIT_S))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "not within $WAIT_S s: $what"
        sleep 0.5
    done
}

# container SERVICE: its id. Names differ between versions of Compose.
container() { compose ps -q "$1"; }

# in_container ID ARGUMENTS...: the binary, in there.
in_container() {
    local id=$1
    shift
    docker exec "$id" /pilothouse "$@" </dev/null
}

cleanup() {
    local status=$?
    trap - EXIT INT TERM
    if ((status != 0)); then
        compose --profile hostile logs --no-color --tail 15 >&2 2>&1 || true
    fi
    compose --profile hostile down --volumes --remove-orphans --timeout 10 >/dev/null 2>&1 || true
    [[ -z $BUILT ]] || docker image rm "$BUILT" >/dev/null || true
    local left
    left=$(docker ps -aq --filter "label=com.docker.compose.project=$PROJECT"
        docker volume ls -q --filter "label=com.docker.compose.project=$PROJECT"
        docker network ls -q --filter "label=com.docker.compose.project=$PROJECT")
    if [[ -n $left ]]; then
        echo "error: left behind: $left" >&2
        status=1
    fi
    ((status == 0)) && say "$NAME: everything held; nothing is left behind"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -z ${PILOTHOUSE_IMAGE:-} ]]; then
    BUILT=pilothouse:dev-$$
    PILOTHOUSE_IMAGE=$BUILT
    say "building an image: $(docker/build.sh "$BUILT")"
fi
export PILOTHOUSE_IMAGE PILOTHOUSE_TARGET=given
