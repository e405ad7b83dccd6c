"""Pods of rendered manifests as containers of plain Docker: what a kubelet would set up, as far as it is seen from inside.

Arguments, environment, user and groups, a read-only root, capabilities, memory, names, probes, init containers, and volumes
with the owners and modes that Kubernetes gives them. Not there: NetworkPolicies, scheduling, eviction, admission. Needs root,
since files of a Secret belong to root and the pod's group.
"""

import base64
import http.client
import os
import pathlib
import shutil
import ssl
import subprocess
import time

import yaml

from manifests import expand, load

# A container that is asked something answers within this, in seconds.
COMMAND_S = 60
# As the kubelet does when an init container fails, but sooner: a test waits for it.
AGAIN_S = 2
UNITS = {"Mi": "m", "Gi": "g"}


def docker(*words, check=True, stdin=None, **more):
    return subprocess.run(
        ["docker", *map(str, words)], check=check, text=True, timeout=COMMAND_S, capture_output=True, input=stdin, **more
    )


class Node:
    """The folder of one run: what an API server would know, volumes, and directories of nodes."""

    def __init__(self, folder, image):
        self.folder, self.image = pathlib.Path(folder), image
        self.label = f"pilothouse-rehearsal={self.folder.name}"
        self.network = self.folder.name

    # What an API server would know.

    def store(self, document):
        kind, metadata = document["kind"], document["metadata"]
        assert kind == "Secret", f"only Secrets are stored one by one, not {kind}"
        place = self.folder / "secrets" / metadata["namespace"] / metadata["name"]
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for key, value in document["data"].items():
            (place / key).write_bytes(base64.b64decode(value))

    def secret(self, namespace, name):
        return self.folder / "secrets" / namespace / name

    def manifests(self):
        """With the image of this run in place of the released one."""
        manifests = load((self.folder / "rendered.yaml").read_text())
        for pod in manifests.pods():
            for container in pod.containers():
                container["image"] = self.image
        return manifests

    def pod(self, name):
        """By its own name; a pod of the DaemonSet by its node's."""
        for pod in self.manifests().pods():
            if pod.name == name:
                return pod
        (router,) = self.manifests().routers()
        return router

    # Pods.

    def start(self, name):
        """Init containers one after the other, each until it succeeds once; then the container. Ends with the exit code."""
        pod, node = self.pod(name), name
        for container in pod.spec.get("initContainers", []):
            ended = docker("run", "--rm", *self.options(pod, container, node), check=False)
            if ended.returncode != 0:
                return ended.returncode, ended.stderr.strip()
        (container,) = pod.spec["containers"]
        docker("run", "--detach", "--name", self.container(name), *self.options(pod, container, node))
        return 0, ""

    def start_until(self, name, deadline):
        while True:
            code, why = self.start(name)
            if code == 0:
                return
            assert time.monotonic() < deadline, f"{name} does not start: {why}"
            time.sleep(AGAIN_S)

    def container(self, name):
        return f"{self.folder.name}-{name}"

    def options(self, pod, container, node):
        whole, own = pod.spec["securityContext"], container["securityContext"]
        user, group = (own.get(key, whole[key]) for key in ("runAsUser", "runAsGroup"))
        memory = container["resources"]["limits"]["memory"]
        words = ["--label", self.label, "--network", self.network, "--no-healthcheck", "--user", f"{user}:{group}"]
        words += ["--memory", memory[:-2] + UNITS[memory[-2:]]]
        if own["readOnlyRootFilesystem"]:
            words += ["--read-only"]
        if not own["allowPrivilegeEscalation"]:
            words += ["--security-opt", "no-new-privileges:true"]
        if "fsGroup" in whole:
            words += ["--group-add", whole["fsGroup"]]
        for what, option in (("drop", "--cap-drop"), ("add", "--cap-add")):
            for capability in own["capabilities"].get(what, []):
                words += [option, capability]
        manifests = self.manifests()
        environment = pod.environment(container, manifests, node)
        for name, value in environment.items():
            words += ["--env", f"{name}={value}"]
        for alias in self.aliases(pod, manifests):
            words += ["--network-alias", alias]
        for mount in container["volumeMounts"]:
            words += self.mount(pod, mount, environment, node)
        return [*words, container["image"], *(expand(word, environment) for word in container["args"])]

    def aliases(self, pod, manifests):
        """A Service's name leads to all of its pods here, ready or not."""
        if pod.workload["kind"] != "StatefulSet":
            return []
        services = [f"{s['metadata']['name']}.{pod.namespace}.svc" for s in manifests.services_of(pod)]
        return manifests.names_of(pod) + services

    # Volumes.

    def mount(self, pod, mount, environment, node):
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        target = mount["mountPath"] + (":ro" if mount.get("readOnly") else "")
        volume = volumes.get(mount["name"])
        group = pod.spec["securityContext"].get("fsGroup", 0)
        if volume is None:
            return ["--volume", f"{self.claim(mount['name'], pod, group)}:{target}"]
        if "emptyDir" in volume:
            # Mounted over what the image has there, with a mode of its own: a tmpfs of Docker's would take the image's.
            source = self.folder / "empty" / f"{pod.name}-{volume['name']}-{time.monotonic_ns()}"
            source.mkdir(parents=True)
            os.chown(source, 0, group)
            source.chmod(0o2777)
            return ["--volume", f"{source}:{target}"]
        if "hostPath" in volume:
            source = self.folder / "nodes" / node / volume["hostPath"]["path"].lstrip("/")
            source.mkdir(parents=True, exist_ok=True)
            return ["--volume", f"{source}:{target}"]
        source = self.written(pod, volume, group, node)
        return ["--volume", f"{(source / expand(mount.get('subPathExpr', '.'), environment)).resolve()}:{target}"]

    def claim(self, template, pod, group):
        claim = self.folder / "claims" / f"{template}-{pod.name}"
        if not claim.exists():
            claim.mkdir(parents=True)
            # A new file system, and then fsGroup.
            (claim / "lost+found").mkdir(mode=0o700)
            os.chown(claim, 0, group)
            claim.chmod(0o2775)
        return claim

    def written(self, pod, volume, group, node):
        """As the kubelet writes it: into a directory of its own, which `..data` leads to."""
        place = self.folder / "mounted" / f"{pod.name}-{node}-{volume['name']}-{time.monotonic_ns()}"
        for path, content, mode in self.contents(pod, volume):
            file = place / "..now" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            os.chown(file, 0, group)
            file.chmod(mode | (0o440 if group else 0))
        (place / "..now").mkdir(parents=True, exist_ok=True)
        (place / "..data").symlink_to("..now")
        for entry in (place / "..now").iterdir():
            (place / entry.name).symlink_to(f"..data/{entry.name}")
        return place

    def contents(self, pod, volume):
        if "configMap" in volume:
            for name, text in self.manifests().one("ConfigMap", volume["configMap"]["name"])["data"].items():
                yield name, text.encode(), 0o644
        elif "secret" in volume:
            secret = self.secret(pod.namespace, volume["secret"]["secretName"])
            assert secret.exists() or volume["secret"].get("optional"), f"there is no Secret {secret.name}"
            for file in secret.iterdir() if secret.exists() else []:
                yield file.name, file.read_bytes(), volume["secret"]["defaultMode"]
        else:
            for source in volume["projected"]["sources"]:
                for item in source["secret"]["items"]:
                    file = self.secret(pod.namespace, source["secret"]["name"]) / item["key"]
                    yield item["path"], file.read_bytes(), volume["projected"]["defaultMode"]

    # Probes, and the end.

    def probe(self, name, kind):
        pod = self.pod(name)
        (container,) = pod.spec["containers"]
        probe = container[kind]
        if "exec" in probe:
            asked = docker("exec", self.container(name), *probe["exec"]["command"], check=False)
            return asked.returncode == 0
        get = probe["httpGet"]
        assert get["scheme"] == "HTTPS"
        # The kubelet asks the pod's address, and verifies nobody.
        context = ssl._create_unverified_context()
        asking = http.client.HTTPSConnection(
            self.address(name), pod.port(get["port"]), timeout=probe["timeoutSeconds"], context=context
        )
        try:
            asking.request("GET", get["path"])
            return asking.getresponse().status == 200
        except OSError:
            return False
        finally:
            asking.close()

    def address(self, name):
        words = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", "--format", words, self.container(name)).stdout.strip()

    def certificate(self, name):
        """That which a controller shows on its HTTP port: PEM, without its last line."""
        shown = ssl.get_server_certificate((self.address(name), self.pod(name).port("http")), timeout=COMMAND_S)
        return shown.split("-----END")[0]

    def ready(self, name):
        return self.running(name) and self.probe(name, "readinessProbe")

    def running(self, name):
        shown = docker("inspect", "--format", "{{.State.Running}}", self.container(name), check=False)
        return shown.stdout.strip() == "true"

    def delete(self, name):
        """Ends it in order; the seconds that took, and its exit code."""
        began, grace = time.monotonic(), self.pod(name).spec["terminationGracePeriodSeconds"]
        docker("stop", "--time", grace, self.container(name))
        took = time.monotonic() - began
        code = docker("inspect", "--format", "{{.State.ExitCode}}", self.container(name)).stdout.strip()
        docker("rm", "--force", self.container(name))
        return took, int(code)


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]
