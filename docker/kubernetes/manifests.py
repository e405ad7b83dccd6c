"""Rendered manifests, as far as `check.py` and `rehearse.py` have to understand them: pods of a workload, what they are
called, what is in their environment, what selects them. Needs PyYAML.
"""

import copy
import re
from dataclasses import dataclass, field

import yaml

# What no variable's name has, where Kubernetes makes variables of the names of Services.
SERVICE_LINK = re.compile(r"[^A-Z0-9]")


def load(text):
    """Every object of a rendered kustomization."""
    return Manifests([document for document in yaml.safe_load_all(text) if document])


def selects(selector, labels):
    """Whether a label selector of either form selects these labels. An empty one selects everything."""
    wanted = selector.get("matchLabels", selector if "matchExpressions" not in selector else {})
    assert "matchExpressions" not in selector, "matchExpressions are not understood here"
    return all(labels.get(key) == value for key, value in wanted.items())


@dataclass
class Pod:
    """A pod of a workload, before a node has it."""

    name: str
    namespace: str
    labels: dict
    spec: dict
    workload: dict = field(repr=False)

    def containers(self):
        return self.spec.get("initContainers", []) + self.spec["containers"]

    def port(self, name_or_number):
        """The number of a container's port, or None."""
        for container in self.spec["containers"]:
            for port in container.get("ports", []):
                if name_or_number in (port["name"], port["containerPort"]):
                    return port["containerPort"]
        return None

    def environment(self, container, manifests, node="node-1"):
        """What the container finds in its environment, with every $(NAME) replaced."""
        fields = {"metadata.name": self.name, "metadata.namespace": self.namespace, "spec.nodeName": node}
        found = manifests.service_links(self) if self.spec.get("enableServiceLinks", True) else {}
        for variable in container.get("env", []):
            if "valueFrom" in variable:
                found[variable["name"]] = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                found[variable["name"]] = expand(variable["value"], found)
        return found


def expand(text, environment):
    """As the kubelet does it: $(NAME) of a known name; an unknown one stays as it is."""
    return re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda found: environment.get(found[1], found[0]), text)


class Manifests:
    def __init__(self, documents):
        self.documents = documents

    def copy(self):
        return Manifests(copy.deepcopy(self.documents))

    def of(self, *kinds):
        return [document for document in self.documents if document["kind"] in kinds]

    def one(self, kind, name):
        (found,) = [document for document in self.of(kind) if document["metadata"]["name"] == name]
        return found

    def pods(self):
        """Every pod of a StatefulSet by its own name, and one of each DaemonSet."""
        for workload in self.of("StatefulSet", "DaemonSet"):
            name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
            template = workload["spec"]["template"]
            names = [f"{name}-{nth}" for nth in range(workload["spec"].get("replicas", 1))]
            for pod in names if workload["kind"] == "StatefulSet" else [f"{name}-x7k2p"]:
                yield Pod(pod, namespace, template["metadata"]["labels"], template["spec"], workload)

    def controllers(self):
        return [pod for pod in self.pods() if pod.workload["kind"] == "StatefulSet"]

    def routers(self):
        return [pod for pod in self.pods() if pod.workload["kind"] == "DaemonSet"]

    def names_of(self, pod):
        """The DNS names that a pod of a StatefulSet has through its headless Service, shortest first."""
        host = f"{pod.name}.{pod.workload['spec']['serviceName']}"
        return [host, f"{host}.{pod.namespace}", f"{host}.{pod.namespace}.svc"]

    def services_of(self, pod):
        for service in self.of("Service"):
            if service["metadata"]["namespace"] == pod.namespace and selects(service["spec"]["selector"], pod.labels):
                yield service

    def service_links(self, pod):
        """The variables that Kubernetes makes of the Services in the pod's namespace that have an address."""
        links = {}
        for service in self.of("Service"):
            if service["metadata"]["namespace"] == pod.namespace and service["spec"].get("clusterIP") != "None":
                prefix = SERVICE_LINK.sub("_", service["metadata"]["name"].upper())
                port = service["spec"]["ports"][0]["port"]
                links |= {f"{prefix}_SERVICE_HOST": "10.0.0.1", f"{prefix}_PORT": f"tcp://10.0.0.1:{port}"}
        return links
