#!/usr/bin/env python3
"""What no schema says of the manifests, and what has to hold all the same: ports, names, selectors, settings, identities.

Usage: check.py BINARY CARGO_TOML README RENDERED.yaml... Prints every finding; ends with 0 only when there is none. Needs
PyYAML and kubernetes-validate. What BINARY is asked it answers from its arguments and environment: nothing is started.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

from manifests import expand, load, selects

# A controller hands over and ends within this, in seconds.
STOP_S = 8
# What a controller's directory of certificates holds: `pilothouse pki issue … --with-router-issuer`.
IDENTITY = {"certificate", "key", "ca-controllers", "ca-routers", "ca-admins", "router-issuer", "router-issuer-key"}
# Oldest version of Kubernetes that this is for, and the newest that has schemas.
KUBERNETES = ("1.31", "1.37")
COMPONENT = {"app.kubernetes.io/name", "app.kubernetes.io/component"}
LISTENS = {"peer": "listen.peer", "router": "listen.router", "admin": "listen.admin", "http": "listen.http"}


class Check:
    def __init__(self, manifests, binary, version, readme):
        self.manifests, self.binary, self.version, self.readme = manifests, binary, version, readme

    def findings(self):
        """Each as (rule, words)."""
        for rule in RULES:
            for words in rule(self):
                yield rule.__name__, words

    # What the API server would say.

    def schema(self):
        import kubernetes_validate

        for document in self.manifests.documents:
            name = f"{document['kind']} {document['metadata']['name']}"
            if document["kind"] == "ServiceMonitor":
                yield from monitor_schema(document)
                continue
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as why:
                    yield f"{name}, Kubernetes {version}: {'.'.join(map(str, why.path))}: {why.message}"

    def references(self):
        """Namespaces, volumes, ConfigMaps and accounts that are named have to be there."""
        namespaces = {namespace["metadata"]["name"] for namespace in self.manifests.of("Namespace")}
        for document in self.manifests.documents:
            if document["kind"] != "Namespace" and document["metadata"].get("namespace") not in namespaces:
                yield f"{document['kind']} {document['metadata']['name']} is in no namespace of these"
            if not COMPONENT & set(document["metadata"].get("labels", {})) and document["kind"] != "ConfigMap":
                yield f"{document['kind']} {document['metadata']['name']} has no labels"
        there = {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in self.manifests.documents}
        for pod in self.manifests.pods():
            if ("ServiceAccount", pod.namespace, pod.spec.get("serviceAccountName")) not in there:
                yield f"{pod.name}: there is no ServiceAccount {pod.spec.get('serviceAccountName')}"
            templates = pod.workload["spec"].get("volumeClaimTemplates", [])
            volumes = {volume["name"] for volume in pod.spec["volumes"]} | {t["metadata"]["name"] for t in templates}
            for container in pod.containers():
                for mount in container["volumeMounts"]:
                    if mount["name"] not in volumes:
                        yield f"{pod.name}/{container['name']}: there is no volume {mount['name']}"
            for volume in pod.spec["volumes"]:
                if "configMap" in volume and ("ConfigMap", pod.namespace, volume["configMap"]["name"]) not in there:
                    yield f"{pod.name}: there is no ConfigMap {volume['configMap']['name']}"

    def selectors(self):
        """Whatever selects pods selects some, and what a workload says about its own pods is about them."""
        pods = list(self.manifests.pods())
        for document in self.manifests.of("Service", "PodDisruptionBudget", "NetworkPolicy"):
            selector = document["spec"].get("selector") or document["spec"].get("podSelector")
            namespace = document["metadata"]["namespace"]
            if not any(pod.namespace == namespace and selects(selector, pod.labels) for pod in pods):
                yield f"{document['kind']} {document['metadata']['name']} selects no pod"
        for pod in pods:
            own = [pod.workload["spec"]["selector"]]
            terms = pod.spec.get("affinity", {}).get("podAntiAffinity", {})
            own += [t["labelSelector"] for t in terms.get("requiredDuringSchedulingIgnoredDuringExecution", [])]
            own += [spread["labelSelector"] for spread in pod.spec.get("topologySpreadConstraints", [])]
            if not all(selects(selector, pod.labels) for selector in own):
                yield f"{pod.name}: its workload, its affinity or its spread selects other pods"
        for monitor in self.manifests.of("ServiceMonitor"):
            if not list(self.monitored(monitor)):
                yield f"ServiceMonitor {monitor['metadata']['name']} selects no Service"

    def monitored(self, monitor):
        for service in self.manifests.of("Service"):
            if selects(monitor["spec"]["selector"], service["metadata"]["labels"]):
                yield service

    def ports(self):
        """Every port that is named is a container's, and there the binary listens."""
        for pod in self.manifests.pods():
            for container in pod.containers():
                for probe in PROBES & set(container):
                    port = container[probe].get("httpGet", {}).get("port")
                    if port is not None and pod.port(port) is None:
                        yield f"{pod.name}: {probe} asks port {port}, which no container has"
            for service in self.manifests.services_of(pod):
                for port in service["spec"]["ports"]:
                    if pod.port(port["targetPort"]) != port["port"]:
                        yield f"Service {service['metadata']['name']}: {port['name']} is not a port of {pod.name}"
        for policy in self.manifests.of("NetworkPolicy"):
            chosen = [pod for pod in self.manifests.pods() if selects(policy["spec"]["podSelector"], pod.labels)]
            for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", []):
                for port in rule.get("ports", []):
                    if isinstance(port["port"], str) and any(pod.port(port["port"]) is None for pod in chosen):
                        yield f"NetworkPolicy {policy['metadata']['name']}: no container has a port {port['port']}"
        for monitor in self.manifests.of("ServiceMonitor"):
            for endpoint in monitor["spec"]["endpoints"]:
                for service in self.monitored(monitor):
                    if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                        yield f"ServiceMonitor: {service['metadata']['name']} has no port {endpoint['port']}"

    # What the binary would say.

    def settings(self):
        """Every variable and file is a configuration that the binary takes, and it listens where the ports are."""
        for pod, container, environment, arguments in self.daemons():
            answer = self.ask([arguments[0], "check", *arguments[2:]], environment)
            if "is configured consistently" not in answer.stdout:
                yield f"{pod.name}: {answer.stderr.strip()}"
                continue
            shown = self.ask(["config", "show", "--role", arguments[0], *arguments[2:]], environment).stdout
            values = dict(re.findall(r'^(\S+) = "?([^"\n]*)"?$', shown, re.MULTILINE))
            for name, key in LISTENS.items() if arguments[0] == "controller" else []:
                if values.get(key) != f"0.0.0.0:{pod.port(name)}":
                    yield f"{pod.name}: {key} is {values.get(key)}, and the container's port {name} is {pod.port(name)}"

    def arguments(self):
        """Every command is one of the binary's, with flags that it knows."""
        for pod in self.manifests.pods():
            for container in pod.containers():
                asked = [expand(word, pod.environment(container, self.manifests)) for word in container["args"]]
                answer = self.ask([*asked, "--help"], {})
                if answer.returncode != 0:
                    yield f"{pod.name}/{container['name']}: {answer.stderr.strip()}"

    def daemons(self):
        """Each container that runs a daemon, with what it finds: files of ConfigMaps are put where a check can read them."""
        for pod in self.manifests.pods():
            for container in pod.spec["containers"]:
                environment = pod.environment(container, self.manifests)
                arguments = [expand(word, environment) for word in container["args"]]
                with tempfile.TemporaryDirectory() as folder:
                    for path, text in self.files(pod, container):
                        there = pathlib.Path(folder, path.lstrip("/"))
                        there.parent.mkdir(parents=True, exist_ok=True)
                        there.write_text(text)
                        arguments = [str(there) if word == path else word for word in arguments]
                    yield pod, container, environment, arguments

    def files(self, pod, container):
        maps = {v["name"]: v["configMap"]["name"] for v in pod.spec["volumes"] if "configMap" in v}
        for mount in container["volumeMounts"]:
            for found in self.manifests.of("ConfigMap"):
                if found["metadata"]["name"] == maps.get(mount["name"]):
                    for name, text in found["data"].items():
                        yield f"{mount['mountPath']}/{name}", text

    def ask(self, arguments, environment):
        return subprocess.run(
            [self.binary, *arguments], env=environment, capture_output=True, text=True, timeout=20, check=False
        )

    # Who is who.

    def members(self):
        """Each pod has a file that says what it is; founders agree on all of them, by the names that their pods have."""
        controllers = self.manifests.controllers()
        data = self.manifests.one("ConfigMap", "pilothouse-members")["data"]
        files = {pod.name: tomllib.loads(data.get(f"{pod.name}.toml", "")) for pod in controllers}
        founding = [file["initial_members"] for file in files.values() if "initial_members" in file]
        if any(members != founding[0] for members in founding):
            yield "initial_members are not the same in every file"
        for pod in controllers:
            file = files[pod.name]
            host = f"https://{self.manifests.names_of(pod)[0]}:{pod.port('peer')}"
            own = {"id": file.get("id"), "name": pod.name, "peer": host}
            if file.get("join") is not True and own not in file.get("initial_members", []):
                yield f"{pod.name}: initial_members lack {own}"
        if len({file["id"] for file in files.values() if "id" in file}) != sum("id" in file for file in files.values()):
            yield "two pods have one id"

    def identities(self):
        """A pod sees the Secret of its own name, all of it and no other."""
        for pod in self.manifests.controllers():
            (volume,) = [volume for volume in pod.spec["volumes"] if "projected" in volume]
            (container,) = pod.spec["containers"]
            mounts = [mount for mount in container["volumeMounts"] if mount["name"] == volume["name"]]
            environment = pod.environment(container, self.manifests)
            for mount in mounts:
                if expand(mount.get("subPathExpr", ""), environment) != pod.name:
                    yield f"{pod.name}: it sees the keys of others"
                if mount["mountPath"] != environment.get("PILOTHOUSE_TLS__DIR"):
                    yield f"{pod.name}: its certificates are not at {mount['mountPath']}"
            sources = [source["secret"] for source in volume["projected"]["sources"]]
            for source in sources:
                paths = {(item["key"], item["path"]) for item in source["items"]}
                if paths != {(f"{file}.pem", f"{source['name']}/{file}.pem") for file in IDENTITY}:
                    yield f"Secret {source['name']} is not mounted as {source['name']}/, or not all of it"
            if pod.name not in {source["name"] for source in sources}:
                yield f"{pod.name}: there is no Secret of its name among its volumes"
            if volume["projected"].get("defaultMode") != 0o440:
                yield f"{pod.name}: keys have to have mode 0440"

    def seeds(self):
        """Routers are told names that lead to controllers, each of them and all, at the port for routers."""
        hosts = {self.manifests.names_of(pod)[-1] for pod in self.manifests.controllers()}
        services = {
            f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
            for pod in self.manifests.controllers()
            for service in self.manifests.services_of(pod)
        }
        for pod, _, environment, arguments in self.daemons():
            if arguments[0] == "controller":
                (advertised,) = re.findall(r'https://([^:"]+):7002', environment["PILOTHOUSE_ADVERTISE__ROUTER"])
                if advertised != self.manifests.names_of(pod)[-1]:
                    yield f"{pod.name}: routers are told {advertised}, which is not its name"
                continue
            named = re.findall(r'https://([^:"]+):(\d+)', environment["PILOTHOUSE_SEEDS"])
            for host, port in named:
                if host not in hosts | services or port != "7002":
                    yield f"seed {host}:{port} leads to no controller"
            if not hosts <= {host for host, _ in named}:
                yield "seeds lack a controller"

    def metrics(self):
        """The name that Prometheus verifies is one that every certificate is made with."""
        for monitor in self.manifests.of("ServiceMonitor"):
            name = monitor["spec"]["endpoints"][0]["tlsConfig"]["serverName"]
            if f"--dns {name} " not in self.readme:
                yield f"README.md makes certificates without --dns {name}"

    # What keeps a majority, and what keeps a node.

    def availability(self):
        controllers = self.manifests.controllers()
        spec = controllers[0].workload["spec"]
        if spec["podManagementPolicy"] != "Parallel":
            yield "no pod would be ready before the others are started"
        if spec["replicas"] % 2 == 0:
            yield "an even number of voters tolerates no more failures than one fewer"
        headless = self.manifests.one("Service", spec["serviceName"])["spec"]
        if headless["clusterIP"] != "None" or headless.get("publishNotReadyAddresses") is not True:
            yield "controllers have to find each other before they are ready"
        if set(spec["persistentVolumeClaimRetentionPolicy"].values()) != {"Retain"}:
            yield "volumes have to be kept"
        (budget,) = self.manifests.of("PodDisruptionBudget")
        if budget["spec"].get("maxUnavailable") != 1 or not selects(budget["spec"]["selector"], controllers[0].labels):
            yield "the PodDisruptionBudget has to let one controller go at a time"
        terms = controllers[0].spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        if [term["topologyKey"] for term in terms] != ["kubernetes.io/hostname"]:
            yield "two controllers could be on one node"

    def probes(self):
        """Nothing that needs other controllers may end a process."""
        for pod in self.manifests.pods():
            for container in pod.spec["containers"]:
                for probe in {"livenessProbe", "startupProbe"} & set(container):
                    asked = container[probe].get("exec", {}).get("command")
                    if container[probe].get("httpGet", {}).get("path") != "/livez" and asked != ALIVE:
                        yield f"{pod.name}: {probe} may only ask /livez"
                ready = container.get("readinessProbe", {})
                if ready.get("httpGet", {}).get("path") != "/readyz" and "health" not in str(ready.get("exec")):
                    yield f"{pod.name}: readinessProbe has to ask /readyz"
            if pod.spec["terminationGracePeriodSeconds"] <= STOP_S:
                yield f"{pod.name}: a stop takes up to {STOP_S} s"

    def router_files(self):
        """What is prepared is what is enrolled is what runs, on a directory of the node."""
        for pod in self.manifests.routers():
            made, enrolled = (container["args"] for container in pod.spec["initContainers"])
            run = pod.environment(pod.spec["containers"][0], self.manifests)
            given = set(made[3:])
            flags = dict(word.lstrip("-").partition("=")[::2] for word in enrolled[2:])
            if (flags["data-dir"], flags["tls-dir"]) != (run["PILOTHOUSE_DATA_DIR"], run["PILOTHOUSE_TLS__DIR"]):
                yield f"{pod.name}: it is enrolled elsewhere than it runs"
            if "if-needed" not in flags:
                yield f"{pod.name}: a node that restarts without controllers would have no router"
            json_file = pathlib.PurePath(run["PILOTHOUSE_OUTPUT__JSON_FILE"])
            for path in [pathlib.PurePath(flags["data-dir"]), pathlib.PurePath(flags["tls-dir"]), json_file.parent]:
                if not given & {str(path), *map(str, path.parents)}:
                    yield f"{pod.name}: nobody gives it {path}"
            (state,) = [volume for volume in pod.spec["volumes"] if "hostPath" in volume]
            if any(not path.startswith(state["hostPath"]["path"] + "/") for path in given):
                yield f"{pod.name}: what it knows does not outlive the pod"
            user = f"{pod.spec['securityContext']['runAsUser']}:{pod.spec['securityContext']['runAsGroup']}"
            if f"--owner={user}" not in made:
                yield f"{pod.name}: directories are given to another user than {user}"

    def confinement(self):
        for pod in self.manifests.pods():
            whole = pod.spec["securityContext"]
            if pod.spec.get("enableServiceLinks") is not False:
                yield f"{pod.name}: variables of Services would be taken for settings"
            if pod.spec.get("automountServiceAccountToken") is not False:
                yield f"{pod.name}: it needs no token of the API server"
            if (whole.get("runAsNonRoot"), whole.get("runAsUser")) != (True, 65532):
                yield f"{pod.name}: it has to run as user 65532"
            if whole.get("seccompProfile") != {"type": "RuntimeDefault"}:
                yield f"{pod.name}: no seccomp profile"
            for container in pod.containers():
                yield from confined(pod, container)
                if container["image"] != f"pilothouse:{self.version}":
                    yield f"{pod.name}/{container['name']}: {container['image']} is not of version {self.version}"
        for pod in self.manifests.controllers():
            if pod.spec["securityContext"].get("fsGroup") != 65532:
                yield f"{pod.name}: it could not read its key"
            namespace = self.manifests.one("Namespace", pod.namespace)["metadata"]["labels"]
            if namespace.get("pod-security.kubernetes.io/enforce") != "restricted":
                yield f"namespace {pod.namespace} has to be restricted"


def confined(pod, container):
    name, own = f"{pod.name}/{container['name']}", container.get("securityContext", {})
    if "memory" not in container.get("resources", {}).get("limits", {}):
        yield f"{name}: no limit of memory"
    if not {"cpu", "memory"} <= set(container.get("resources", {}).get("requests", {})):
        yield f"{name}: it requests nothing"
    if own.get("readOnlyRootFilesystem") is not True or own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: its root has to be read-only, and its rights may not grow"
    added = own.get("capabilities", {}).get("add", [])
    allowed = ["CHOWN"] if own.get("runAsUser") == 0 and container["args"][:2] == ["router", "prepare"] else []
    if own.get("capabilities", {}).get("drop") != ["ALL"] or added != allowed:
        yield f"{name}: capabilities"
    if (own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False) and not allowed:
        yield f"{name}: it may not be root"


def monitor_schema(monitor):
    """The part of ServiceMonitor that is used here: its own schema is the operator's."""
    endpoint = {"port", "path", "scheme", "interval", "scrapeTimeout", "tlsConfig"}
    if monitor["apiVersion"] != "monitoring.coreos.com/v1":
        yield "ServiceMonitor: another version"
    for where, found, known in [
        ("spec", set(monitor["spec"]), {"selector", "endpoints"}),
        *(("endpoint", set(each), endpoint) for each in monitor["spec"]["endpoints"]),
        *(("tlsConfig", set(each["tlsConfig"]), {"ca", "serverName"}) for each in monitor["spec"]["endpoints"]),
        *(("ca", set(each["tlsConfig"]["ca"]["configMap"]), {"name", "key"}) for each in monitor["spec"]["endpoints"]),
    ]:
        if found != known:
            yield f"ServiceMonitor: {where} has {sorted(found ^ known)} too many or too few"
    if any(each["scheme"] != "https" for each in monitor["spec"]["endpoints"]):
        yield "ServiceMonitor: metrics are served over TLS"


PROBES = {"startupProbe", "livenessProbe", "readinessProbe"}
# Asks /livez where the kubelet itself cannot.
ALIVE = ["/pilothouse", "health", "--alive"]
RULES = [
    Check.schema,
    Check.references,
    Check.selectors,
    Check.ports,
    Check.settings,
    Check.arguments,
    Check.members,
    Check.identities,
    Check.seeds,
    Check.metrics,
    Check.availability,
    Check.probes,
    Check.router_files,
    Check.confinement,
]


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__.strip())
    binary, cargo, readme, *rendered = sys.argv[1:]
    version = tomllib.loads(pathlib.Path(cargo).read_text())["package"]["version"]
    found = 0
    for path in rendered:
        manifests = load(pathlib.Path(path).read_text())
        for rule, words in Check(manifests, binary, version, pathlib.Path(readme).read_text()).findings():
            found += 1
            print(f"{path}: {rule}: {words}", file=sys.stderr)
        objects, rules = len(manifests.documents), len(RULES)
        print(f"{path}: {objects} objects, Kubernetes {' and '.join(KUBERNETES)}, {rules} rules")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
