#!/usr/bin/env python3
"""Each rule of docker/kubernetes/check.py against manifests that break it: a rule that finds nothing there is none.

Usage: kubernetes.py BINARY RENDERED.yaml. Needs PyYAML and kubernetes-validate.
"""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docker" / "kubernetes"))

import check  # noqa: E402
from manifests import load  # noqa: E402


def spec(manifests, kind, name="pilothouse"):
    return manifests.one(kind, name)["spec"]


def pods(manifests, kind="StatefulSet", name="pilothouse"):
    return spec(manifests, kind, name)["template"]["spec"]


def controller(manifests):
    return pods(manifests)["containers"][0]


def router(manifests):
    return pods(manifests, "DaemonSet", "pilothouse-router")


def variable(container, name):
    return next(variable for variable in container["env"] if variable["name"] == name)


def members(manifests):
    return manifests.one("ConfigMap", "pilothouse-members")["data"]


def put(place, key, value):
    place[key] = value


def drop(place, key):
    del place[key]


def sources(manifests):
    (volume,) = [volume for volume in pods(manifests)["volumes"] if "projected" in volume]
    return volume["projected"]["sources"]


def mount(container, name):
    return next(mount for mount in container["volumeMounts"] if mount["name"] == name)


def edit(manifests, pod, old, new):
    text = members(manifests)[f"{pod}.toml"]
    assert old in text
    put(members(manifests), f"{pod}.toml", text.replace(old, new))


# Which rule has to notice, and what it has to notice.
BROKEN = [
    ("schema", lambda m: put(spec(m, "StatefulSet"), "replica", 3)),
    ("schema", lambda m: put(pods(m), "enableServiceLink", False)),
    ("schema", lambda m: put(spec(m, "ServiceMonitor")["endpoints"][0], "scheme", "http")),
    ("schema", lambda m: put(spec(m, "ServiceMonitor")["endpoints"][0], "prot", "http")),
    ("references", lambda m: put(m.one("PodDisruptionBudget", "pilothouse")["metadata"], "namespace", "default")),
    ("references", lambda m: put(mount(controller(m), "data"), "name", "date")),
    ("references", lambda m: put(pods(m), "serviceAccountName", "default")),
    ("selectors", lambda m: put(spec(m, "Service", "pilothouse-admin")["selector"], "app.kubernetes.io/name", "x")),
    ("selectors", lambda m: put(spec(m, "PodDisruptionBudget")["selector"]["matchLabels"], "app.kubernetes.io/name", "x")),
    ("selectors", lambda m: put(spec(m, "StatefulSet")["template"]["metadata"]["labels"], "app.kubernetes.io/name", "x")),
    ("selectors", lambda m: put(spec(m, "ServiceMonitor")["selector"]["matchLabels"], "pilothouse-metrics", "no")),
    ("ports", lambda m: put(controller(m)["ports"][3], "name", "web")),
    ("ports", lambda m: put(controller(m)["ports"][1], "containerPort", 8002)),
    ("ports", lambda m: put(spec(m, "NetworkPolicy", "pilothouse-controllers")["ingress"][1]["ports"][0], "port", "x")),
    ("ports", lambda m: put(spec(m, "ServiceMonitor")["endpoints"][0], "port", "metrics")),
    ("settings", lambda m: put(variable(controller(m), "PILOTHOUSE_DATA_DIR"), "name", "PILOTHOUSE_DATA_DIRECTORY")),
    ("settings", lambda m: put(variable(controller(m), "PILOTHOUSE_LISTEN__HTTP"), "value", "0.0.0.0:7005")),
    ("settings", lambda m: drop(pods(m), "enableServiceLinks")),
    ("settings", lambda m: edit(m, "pilothouse-1", "id = 2\n", "id = 2\njoin = true\n")),
    ("settings", lambda m: put(variable(router(m)["containers"][0], "PILOTHOUSE_HTTP"), "value", "0.0.0.0:7080")),
    ("arguments", lambda m: put(controller(m)["args"], 0, "controllers")),
    ("arguments", lambda m: put(router(m)["initContainers"][1]["args"], 2, "--if-neded")),
    ("members", lambda m: edit(m, "pilothouse-0", "pilothouse-2.pilothouse-peers", "pilothouse-2.pilothouse")),
    ("members", lambda m: edit(m, "pilothouse-0", "\nid = 1\n", "\nid = 2\n")),
    ("members", lambda m: drop(members(m), "pilothouse-2.toml")),
    ("identities", lambda m: put(sources(m)[0]["secret"], "name", "pilothouse-1")),
    ("identities", lambda m: sources(m)[1]["secret"]["items"].pop()),
    ("identities", lambda m: drop(mount(controller(m), "identities"), "subPathExpr")),
    ("seeds", lambda m: put(variable(router(m)["containers"][0], "PILOTHOUSE_SEEDS"), "value", '["https://x.svc:7002"]')),
    ("seeds", lambda m: put(variable(controller(m), "PILOTHOUSE_ADVERTISE__ROUTER"), "value", '["https://all.svc:7002"]')),
    ("metrics", lambda m: put(spec(m, "ServiceMonitor")["endpoints"][0]["tlsConfig"], "serverName", "x")),
    ("availability", lambda m: put(spec(m, "StatefulSet"), "podManagementPolicy", "OrderedReady")),
    ("availability", lambda m: drop(spec(m, "Service", "pilothouse-peers"), "publishNotReadyAddresses")),
    ("availability", lambda m: put(spec(m, "PodDisruptionBudget"), "maxUnavailable", 2)),
    ("availability", lambda m: put(spec(m, "StatefulSet")["persistentVolumeClaimRetentionPolicy"], "whenScaled", "Delete")),
    ("probes", lambda m: put(controller(m)["livenessProbe"]["httpGet"], "path", "/readyz")),
    ("probes", lambda m: put(router(m)["containers"][0]["livenessProbe"]["exec"], "command", ["/pilothouse", "health"])),
    ("probes", lambda m: put(pods(m), "terminationGracePeriodSeconds", 5)),
    ("router_files", lambda m: router(m)["initContainers"][1]["args"].remove("--if-needed")),
    ("router_files", lambda m: put(variable(router(m)["containers"][0], "PILOTHOUSE_TLS__DIR"), "value", "/tls")),
    ("router_files", lambda m: router(m)["initContainers"][0]["args"].pop()),
    ("confinement", lambda m: drop(controller(m)["resources"]["limits"], "memory")),
    ("confinement", lambda m: put(controller(m)["securityContext"], "readOnlyRootFilesystem", False)),
    ("confinement", lambda m: put(router(m)["containers"][0]["securityContext"], "runAsUser", 0)),
    ("confinement", lambda m: put(controller(m)["securityContext"]["capabilities"], "add", ["NET_ADMIN"])),
    ("confinement", lambda m: put(controller(m), "image", "pilothouse:0.0.1")),
    ("confinement", lambda m: drop(pods(m), "automountServiceAccountToken")),
    ("confinement", lambda m: drop(pods(m)["securityContext"], "fsGroup")),
]


def main():
    binary, rendered = sys.argv[1:]
    whole = load(pathlib.Path(rendered).read_text())
    version = check.tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    readme = (ROOT / "docker" / "kubernetes" / "README.md").read_text()

    def found(manifests, rule):
        checked = check.Check(manifests, binary, version, readme)
        return list(getattr(checked, rule)())

    # What a lost volume ends in, as README.md there says, is as good as what was there before.
    replaced = whole.copy()
    put(members(replaced), "pilothouse-0.toml", "join = true\n")
    assert not list(check.Check(replaced, binary, version, readme).findings())
    missed = sorted({rule.__name__ for rule in check.RULES} - {rule for rule, _ in BROKEN})
    assert not missed, f"nothing breaks the rules {missed}"
    for nth, (rule, damage) in enumerate(BROKEN):
        broken = whole.copy()
        damage(broken)
        assert found(broken, rule), f"{rule} does not notice the {nth + 1}th of the broken manifests"
    print(f"{len(BROKEN)} broken manifests were noticed, by all {len(check.RULES)} rules")


if __name__ == "__main__":
    main()
