# shellcheck shell=bash
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
# Images that are removed again.
BUILT=
SCRATCH=$(mktemp -d)

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
# with FILE: from here on, what that file adds too.
with() { COMPOSE+=(--file "docker/demos/$1"); }

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

# container SERVICE: its id, also when it has ended. Names differ between versions of Compose, and so does what `ps` shows.
container() {
    docker ps -aq --filter "label=com.docker.compose.project=$PROJECT" --filter "label=com.docker.compose.service=$1" \
        --filter label=com.docker.compose.oneoff=False
}

# in_container ID ARGUMENTS...: the binary, in there.
in_container() { docker exec "$1" /pilothouse "${@:2}" </dev/null; }

# Containers by service, as `start` found them.
declare -A ID
# The number of the controller that is asked how things are: one that lives.
asked=1

# start SERVICES...: without what they depend on, which is there already or named too.
start() {
    compose up -d --no-build --no-deps "$@" >/dev/null 2>&1 || fail "compose up $*"
    local service
    for service in "$@"; do ID[$service]=$(container "$service"); done
}

# certificates COUNT: for so many controllers, and for what else compose.yaml runs. Makes only those that are missing.
certificates() {
    compose run --rm --no-deps pki pki cluster --dir /authority --out /tls --trust-domain containers.pilothouse \
        --controllers "$1" >/dev/null 2>&1 || fail "compose run pki"
}

# certificate ROLE ID DIRECTORY: one more, in that directory of the volume that everybody reads.
certificate() {
    compose run --rm --no-deps pki pki issue --dir /authority "$1" "$2" --out "/tls/$3" >/dev/null 2>&1 || fail "pki issue $1 $2"
}

status() { in_container "${ID[controller-$asked]}" cluster status; }
field() { status | sed -n "s/^$1  *//p"; }
list() { field 'list version'; }
leader() { field leader | sed -n 's/^\([0-9][0-9]*\).*/\1/p'; }
# led_by_another ID: somebody leads, and not this one.
led_by_another() { local now; now=$(leader) && [[ -n $now && $now != "$1" ]]; }
# up COUNT: a leader, and so many voters that are up.
up() { [[ -n $(leader) && $(status | awk '$3 == "voter" && $5 == "up" { n++ } END { print n + 0 }') == "$1" ]]; }
# current COUNT: so many routers hold the committed list.
current() {
    local list
    list=$(list)
    [[ $(in_container "${ID[controller-$asked]}" routers list | awk -v list="$list" '/^router-/ && $4 "" == list ""' | wc -l) == "$1" ]]
}
# ready SERVICE: it says so itself.
ready() { in_container "${ID[$1]}" health; }
# healthy SERVICE: Docker says so.
healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "${ID[$1]}") == healthy ]]; }
# cluster ARGUMENTS...: a command of an operator, whose outcome is told.
cluster() {
    local told
    told=$(in_container "${ID[controller-$asked]}" cluster "$@" 2>"$SCRATCH/why") || fail "cluster $*: $(cat "$SCRATCH/why")"
    say "    $(head -n 1 <<<"$told")"
}
running() { [[ $(docker inspect --format '{{.State.Running}}' "${ID[$1]}") == true ]]; }
# gone SERVICE: its container, for good. Its volume stays.
gone() { docker rm --force "${ID[$1]}" >/dev/null; unset "ID[$1]"; }
# held ROUTER: which list it has on its disk.
held() { in_container "${ID[$1]}" router list | sed -n 's/^list  *//p'; }
# write CONTROLLER [SECONDS]: something that has to be committed before it succeeds, asked of this one. Tells why it failed.
write() {
    local told
    told=$(in_container "${ID[$1]}" token create --role router --id demo --ttl 1m --timeout "${2:-20}" 2>&1 >/dev/null) \
        || { echo "$told" >&2; return 1; }
}

cleanup() {
    local status=$?
    trap - EXIT INT TERM
    # Whoever ended it knows why.
    if ((status != 0 && status != 130 && status != 143)); then
        compose --profile hostile logs --no-color --tail 15 >&2 2>&1 || true
    fi
    # What runs beside: loops of this script end at their file, and then there are no containers that Compose does not know.
    touch "$SCRATCH/end"
    wait
    docker ps -aq --filter "label=pilothouse.demo=$PROJECT" | xargs --no-run-if-empty docker rm --force >/dev/null 2>&1 || true
    compose --profile hostile down --volumes --remove-orphans --timeout 10 >/dev/null 2>&1 || true
    for image in $BUILT; do docker image rm "$image" >/dev/null 2>&1 || true; done
    rm -rf "$SCRATCH"
    local left
    left=$(docker ps -aq --filter "label=com.docker.compose.project=$PROJECT"
        docker ps -aq --filter "label=pilothouse.demo=$PROJECT"
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
