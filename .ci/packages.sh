#!/usr/bin/env bash
# .ci/packages.sh BINARY: the Debian package of this static binary, twice to the same bytes, and its life on a machine of its
# own: a container with nothing but a minimal Debian whose first process is systemd. Installed, configured, started, asked,
# stopped in its tracks, upgraded, removed and purged. Needs a Docker daemon and the distribution's archive; leaves nothing
# behind.

source "$(dirname "$0")/stages.sh"

(($# == 1)) || { echo "usage: .ci/packages.sh BINARY" >&2; exit 2; }
has_containers || { echo "==> FAILED: no Docker daemon answers: packages cannot be tried without one" >&2; exit 1; }
binary=$1
architecture=$(dpkg --print-architecture)

CARGO_DEB=3.8.0
SUITE=bookworm
# Most exposure of a unit, in tenths, as `systemd-analyze security` has it.
EXPOSURE_MAX=20
# Longest wait for anything in there, in seconds.
WAIT_S=60
# A stop is over within this time: a controller takes 8 s at most.
STOP_MAX_S=10

work=$(mktemp -d)
image=pilothouse-packages-$$
container=
cleanup() {
    local status=$?
    trap - EXIT
    [[ -z ${rooting:-} ]] || kill "$rooting" 2>/dev/null || true
    if [[ -n $container ]]; then
        ((status == 0)) || docker exec "$container" journalctl --no-pager --lines 60 >&2 || true
        docker rm --force --volumes "$container" >/dev/null || true
    fi
    docker image rm "$image" >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT

say() { printf '%5d s  %s\n' "$((SECONDS - BEGAN))" "$*"; }
fail() { printf '==> FAILED: %s\n' "$*" >&2; exit 1; }
inside() { docker exec "$container" "$@"; }
# until_so WHAT COMMAND...: looks again and again until the command succeeds.
until_so() {
    local what=$1 end=$((SECONDS + WAIT_S))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || fail "not within $WAIT_S s: $what"
        sleep 0.3
    done
}
# Degraded is one that has started too: which of a minimal system's own units fail depends on the host.
booted() { [[ $(inside systemctl is-system-running) =~ ^(running|degraded)$ ]]; }
property() { inside systemctl show --property "$2" --value "pilothouse-$1"; }
# shellcheck disable=SC2053 # a pattern is meant
status_is() { [[ $(property "$1" StatusText) == $2 ]]; }
restarted() { [[ $(property "$1" NRestarts) == "$2" && $(property "$1" ActiveState) == active ]]; }
# Everything on the disk of the machine but what is not the package's: logs, and what dpkg and this script write.
everything() {
    inside find / -xdev ! -path '/proc/*' ! -path '/sys/*' ! -path '/run/*' ! -path '/tmp/*' ! -path '/root/*' \
        ! -path '/var/log/*' ! -path '/var/lib/dpkg/*' ! -path '/var/tmp/*' ! -path '/etc/*-' | sort
}

# A compiler and a mirror: each has to wait for its own.
tools() {
    need mmdebstrap mmdebstrap
    need xz xz-utils
    [[ -f /usr/share/keyrings/debian-archive-keyring.gpg ]] || from_distribution "the keys of Debian" debian-archive-keyring
    mmdebstrap --quiet --variant=essential --include=systemd,systemd-sysv --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$SUITE" "$work/root.tar"
}
tools >"$work/tools.log" 2>&1 &
rooting=$!
cargo deb --version >/dev/null 2>&1 \
    || cargo install --quiet --locked --debug --no-default-features "cargo-deb@$CARGO_DEB"
wait "$rooting" || { cat "$work/tools.log" >&2; fail "there is no root file system to try the package in"; }
say "tools and a minimal $SUITE with systemd"

docker/packages/deb.sh "$binary" "$work/first" >/dev/null
docker/packages/deb.sh "$binary" "$work/again" >/dev/null
cmp "$work"/first/*.deb "$work"/again/*.deb || fail "the package is not the same when it is made twice"
version=$(sed -n '0,/^version = "\(.*\)"/s//\1/p' Cargo.toml)
mkdir "$work/debs"
mv "$work"/first/*.deb "$work/debs"
# A later version of the same, to upgrade to.
dpkg-deb --raw-extract "$work"/again/*.deb "$work/later"
sed -i "s/^Version: .*/Version: $version-2/" "$work/later/DEBIAN/control"
dpkg-deb --root-owner-group -Znone --build "$work/later" "$work/debs" >/dev/null
say "$(cd "$work/debs" && ls -s --block-size=KiB -- *-1_*.deb), twice the same"

docker import "$work/root.tar" "$image" >/dev/null
# Namespaces and mounts of its own are what systemd needs to confine a service.
container=$(docker run --detach --network none --cap-add SYS_ADMIN --security-opt seccomp=unconfined \
    --security-opt apparmor=unconfined --cgroupns host --volume /sys/fs/cgroup:/sys/fs/cgroup --tmpfs /run --tmpfs /tmp \
    --env container=docker --volume "$work/debs:/root/debs:ro" "$image" /sbin/init)
until_so "systemd has started" booted
say "$(inside systemctl --version | sed -n 1p) is the first process of a container"

everything >"$work/before"
inside dpkg --install "/root/debs/pilothouse_${version}-1_$architecture.deb" >"$work/install.log" 2>&1 || { cat "$work/install.log"; exit 1; }
grep -q 'nothing is started yet' "$work/install.log" || fail "the installation does not say what comes next"
for part in man/man1/pilothouse.1.gz man/man1/pilothouse-cluster-status.1.gz bash-completion/completions/pilothouse \
    zsh/vendor-completions/_pilothouse fish/vendor_completions.d/pilothouse.fish doc/pilothouse/copyright \
    doc/pilothouse/changelog.Debian.gz doc/pilothouse/licences/THIRD-PARTY.txt doc/pilothouse/examples/controller.toml; do
    inside test -s "/usr/share/$part" || fail "the package has no /usr/share/$part"
done
units=(/usr/lib/systemd/system/pilothouse-{controller,router}.service)
inside systemd-analyze verify --man=no "${units[@]}" || fail "systemd does not understand the units"
for unit in controller router; do
    [[ $(property $unit UnitFileState) == disabled && $(property $unit ActiveState) == inactive ]] \
        || fail "$unit was enabled or started by its installation"
    inside systemctl start "pilothouse-$unit" >/dev/null 2>&1 && fail "$unit starts without a configuration"
    inside systemd-analyze security --offline=true --threshold=$EXPOSURE_MAX "/usr/lib/systemd/system/pilothouse-$unit.service" \
        >"$work/security" || { cat "$work/security"; fail "$unit is exposed to more than $EXPOSURE_MAX"; }
    say "$unit: $(tail -n 1 "$work/security" | sed 's/^[^O]*//')"
done

inside bash -e -c '
    pilothouse pki cluster --dir /root/authority --trust-domain example.org --out /root/issued --controllers 1 --routers 1
    cp -r /root/issued/controller-1 /etc/pilothouse/tls/controller
    cp -r /root/issued/router-1 /etc/pilothouse/tls/router
    chown -R pilothouse-controller: /etc/pilothouse/tls/controller
    chown -R pilothouse-router: /etc/pilothouse/tls/router
    cd /usr/share/doc/pilothouse/examples
    sed "s/192.0.2.1:/127.0.0.1:/; /id = [23], name/d" controller.toml >/etc/pilothouse/controller.toml
    sed "s/^id = .*/id = \"router-1\"/; s/^seeds = .*/seeds = [\"https:\/\/127.0.0.1:7002\"]/; s/^#json_file/json_file/" \
        router.toml >/etc/pilothouse/router.toml
    sed -i "s|^#on_change = .*|on_change = \"id -un >/run/pilothouse-router/ran; touch /etc/pilothouse/tls/router/written; touch /etc/not-allowed\"|" /etc/pilothouse/router.toml
    # Not 30 s, so that this takes no longer than it has to.
    for unit in controller router; do
        mkdir -p /etc/systemd/system/pilothouse-$unit.service.d
        printf "[Service]\nWatchdogSec=4s\nRestartSec=1s\n" >/etc/systemd/system/pilothouse-$unit.service.d/quickly.conf
    done
    systemctl daemon-reload
' >/dev/null 2>"$work/configure.log" || { cat "$work/configure.log"; fail "it cannot be configured"; }

for unit in controller router; do
    inside systemctl enable --quiet --now "pilothouse-$unit" || { inside systemctl status --no-pager "pilothouse-$unit"; exit 1; }
    # It returned because the daemon said that it is ready.
    [[ $(property $unit ActiveState) == active && -n $(property $unit StatusText) ]] || fail "$unit did not say that it is ready"
done
until_so "the controller leads" status_is controller 'leader, list 1.1, 1 voter, * session*'
until_so "the router holds the list" status_is router 'list 1.1 from controller 1, 1 session'
inside systemctl status --no-pager --lines 0 pilothouse-controller pilothouse-router
inside pilothouse cluster status >/dev/null || fail "root cannot use the operators' socket"
inside setpriv --reuid nobody --regid nogroup --clear-groups pilothouse cluster status >/dev/null 2>&1 \
    && fail "anybody can use the operators' socket"
until_so "the data plane's file is there, for everybody" \
    inside setpriv --reuid nobody --regid nogroup --clear-groups cat /run/pilothouse-router/controllers.json
until_so "the router's command runs as the router" inside grep -qx pilothouse-router /run/pilothouse-router/ran
until_so "what it may not do is said" inside bash -c '
    told=$(journalctl -u pilothouse-router)
    [[ $told == *"Read-only file system"* && $told == *"output.on_change failed"* ]]'
until_so "the router can replace its certificate" inside test -e /etc/pilothouse/tls/router/written
say "both serve, and say so"

inside systemctl kill --signal STOP --kill-who main pilothouse-controller pilothouse-router
for unit in controller router; do
    until_so "the watchdog starts the $unit again" restarted $unit 1
done
[[ $(inside journalctl -u pilothouse-controller -u pilothouse-router | grep -c 'Watchdog timeout') == 2 ]] \
    || fail "something else than the watchdog restarted them"
until_so "the router holds the list again" status_is router 'list 1.1 from controller 1, 1 session'
say "both were stopped in their tracks, and started again by the watchdog"

pids=$(property controller MainPID)-$(property router MainPID)
inside dpkg --install "/root/debs/pilothouse_${version}-2_$architecture.deb" >"$work/upgrade.log" 2>&1 || { cat "$work/upgrade.log"; exit 1; }
[[ $(property controller MainPID)-$(property router MainPID) == "$pids" ]] || fail "an upgrade restarts what runs"
grep -q "still runs version ${version}-1" "$work/upgrade.log" || fail "the upgrade does not say what still runs"
inside systemctl restart pilothouse-controller pilothouse-router
until_so "the router holds the list after the upgrade" status_is router 'list 1.1 from controller 1, 1 session'
say "an upgrade restarts nothing, and what is restarted goes on"

began=$SECONDS
inside systemctl stop pilothouse-controller
((SECONDS - began <= STOP_MAX_S)) || fail "a stop took $((SECONDS - began)) s"
[[ $(property controller Result) == success ]] || fail "the controller did not end in order: $(property controller Result)"
inside systemctl start pilothouse-controller
inside dpkg --remove pilothouse >/dev/null 2>&1
for left in /etc/pilothouse/{controller,router}.toml /var/lib/pilothouse/{controller/FORMAT,router/list.current}; do
    inside test -e "$left" || fail "a removal took $left"
done
inside bash -c '! grep -l pilothouse /proc/[0-9]*/comm' >/dev/null 2>&1 || fail "something still runs after the removal"
say "a removal stops both, and keeps configuration and data"

inside dpkg --purge pilothouse >"$work/purge.log" 2>&1
grep -q 'a member never comes back without them' "$work/purge.log" || fail "the purge does not say what it deletes"
inside rm -rf /etc/systemd/system/pilothouse-{controller,router}.service.d
everything >"$work/after"
diff "$work/before" "$work/after" || fail "a purge leaves something behind"
inside test ! -e /run/pilothouse-router || fail "a purge leaves /run/pilothouse-router behind"
inside getent passwd pilothouse-controller >/dev/null || fail "the purge took the users: somebody else will get their numbers"
say "a purge leaves nothing but the users"
