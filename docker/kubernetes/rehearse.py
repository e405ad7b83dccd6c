#!/usr/bin/env python3
"""Does what README.md beside it says, with containers of plain Docker in place of a cluster: its own commands, in its order.

Usage: rehearse.py IMAGE. Needs root, a Docker daemon, PyYAML, and a kubectl that renders (KUBECTL=...). Takes two minutes,
waits for nothing longer than WAIT_S, and leaves nothing behind. Ends with 0 only if all of it was seen.

The blocks that README.md marks with `<!-- rehearsed: NAME -->` are run by a shell whose `kubectl` and `pilothouse` are this
script: rendering is kubectl's own, Secrets are kept in a folder, pods are started by kubelet.py.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from kubelet import Node, docker, documents

HERE = pathlib.Path(__file__).resolve().parent
# Longest wait for any one thing, in seconds: an election, a start and a probe fit in, on a busy machine.
WAIT_S = 90
# So long a pod without its volume is watched to stay out, in seconds: several elections.
WATCHED_S = 10
NODES = ["node-1", "node-2"]
PODS = ["pilothouse-0", "pilothouse-1", "pilothouse-2"]
BEGAN = time.monotonic()


def say(words):
    print(f"{time.monotonic() - BEGAN:5.0f} s  {words}", flush=True)


def until(what, condition):
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"error: not within {WAIT_S} s: {what}")
        time.sleep(0.3)
    return found


class Rehearsal:
    def __init__(self, folder, image, kubectl):
        self.folder, self.kubectl = pathlib.Path(folder), kubectl
        self.cluster = Node(folder, image)
        self.work = self.folder / "work"
        shutil.copytree(HERE, self.work / "docker" / "kubernetes", ignore=shutil.ignore_patterns("__pycache__"))
        programs = self.folder / "bin"
        programs.mkdir()
        for name in ("kubectl", "pilothouse"):
            shim = programs / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE}/rehearse.py" --as {name} "$@"\n')
            shim.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "REHEARSAL": json.dumps([str(folder), image, kubectl]),
        }

    def follow(self, name):
        """Runs a block of README.md."""
        readme = (HERE / "README.md").read_text()
        (block,) = re.findall(rf"<!-- rehearsed: {name} -->\n```sh\n(.*?)```", readme, re.DOTALL)
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=self.work, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=4 * WAIT_S, check=False,
        )
        if ended.returncode != 0:
            sys.exit(f"error: README.md, {name}, ends with {ended.returncode}\n{ended.stdout}{ended.stderr}")

    def ask(self, pod, *words):
        return docker("exec", self.cluster.container(pod), "/pilothouse", *words, check=False)

    def status(self, pod="pilothouse-1"):
        answer = self.ask(pod, "cluster", "status", "-o", "json")
        return json.loads(answer.stdout) if answer.returncode == 0 else {}

    def states(self):
        return {member["id"]: member["state"] for member in self.status().get("members", [])}

    def listed(self, node):
        """The ids in the file that the data plane of a node reads."""
        file = self.cluster.folder / "nodes" / node / "var/lib/pilothouse/lists/controllers.json"
        if not file.exists():
            return None
        assert file.stat().st_mode & 0o004 and file.parent.stat().st_mode & 0o005 == 0o005, "the data plane cannot read it"
        return [controller["id"] for controller in json.loads(file.read_text())["controllers"]]

    def all_ready(self, names):
        return lambda: all(self.cluster.ready(name) for name in names)

    # The acts.

    def form(self):
        say("1/7 README.md, install: three controllers are made, named, and form a cluster")
        self.follow("install")
        until("three controllers are ready", self.all_ready(PODS))
        for pod in PODS:
            for probe in ("startupProbe", "livenessProbe"):
                assert self.cluster.probe(pod, probe), f"{pod}: {probe}"
        say("        all are alive and ready by their own probes")

    def enroll(self):
        say("2/7 README.md, routers: a router on each of two nodes")
        code, why = self.cluster.start(NODES[0])
        assert code == 1 and "cannot read the token" in why, f"without a token it ended with {code}: {why}"
        say(f"        without a token: {why.splitlines()[0]}")
        self.follow("routers")
        for node in NODES:
            self.cluster.start_until(node, time.monotonic() + WAIT_S)
        until("routers are ready", self.all_ready(NODES))
        for node in NODES:
            until(f"{node} has controllers 1, 2 and 3", lambda node=node: self.listed(node) == [1, 2, 3])
        say("        both are ready; their data plane reads controllers 1, 2 and 3")

    def reboot(self):
        say("3/7 every controller is gone, and a node restarts: its router does too, from its own list")
        for pod in PODS:
            took, code = self.cluster.delete(pod)
            assert code == 0 and took < 10, f"{pod} ended with {code} after {took:.1f} s"
        shutil.rmtree(self.cluster.secret("pilothouse-routers", "pilothouse-router-tokens"))
        self.cluster.delete(NODES[0])
        self.cluster.start_until(NODES[0], time.monotonic() + WAIT_S)
        until("the router is ready without any controller", self.all_ready(NODES[:1]))
        assert self.listed(NODES[0]) == [1, 2, 3]
        for pod in PODS:
            self.cluster.start(pod)
        until("three controllers are ready", self.all_ready(PODS))
        say("        it was ready without a token and without a controller; these are back")

    def renew(self):
        say("4/7 README.md, renewing: new certificates, and one restart after the other")
        before = {pod: self.cluster.certificate(pod) for pod in PODS}
        assert before == {pod: self.issued(pod) for pod in PODS}, "they show other certificates than their Secrets'"
        self.follow("renew")
        for pod in PODS:
            shown = self.cluster.certificate(pod)
            assert shown == self.issued(pod) != before[pod], f"{pod} does not show its new certificate"
        assert self.all_ready(NODES)(), "routers are not ready"
        say("        each shows its new certificate; routers stayed ready")

    def issued(self, pod):
        return (self.cluster.secret("pilothouse", pod) / "certificate.pem").read_text().split("-----END")[0]

    def mistake(self):
        say("5/7 pilothouse-1 is given what belongs to pilothouse-2: it does not start, and touches nothing")
        own, other = (self.cluster.secret("pilothouse", pod) for pod in PODS[1:])
        kept = shutil.copytree(own, self.folder / "kept")
        shutil.copytree(other, own, dirs_exist_ok=True)
        self.cluster.delete("pilothouse-1")
        self.cluster.start("pilothouse-1")
        until("it has ended", lambda: not self.cluster.running("pilothouse-1"))
        why = docker("logs", self.cluster.container("pilothouse-1")).stderr.strip()
        assert "give it the certificate of its own id" in why, why
        docker("rm", self.cluster.container("pilothouse-1"))
        shutil.copytree(kept, own, dirs_exist_ok=True)
        self.cluster.start("pilothouse-1")
        until("three controllers are ready", self.all_ready(PODS))
        say(f"        {why.splitlines()[-1][:120]}")

    def lose(self):
        say("6/7 the volume of pilothouse-0 is lost; the pod comes back as it was, and is not let in")
        self.cluster.delete("pilothouse-0")
        shutil.rmtree(self.cluster.folder / "claims" / "data-pilothouse-0")
        self.cluster.start("pilothouse-0")
        until("it is alive", lambda: self.cluster.probe("pilothouse-0", "livenessProbe"))
        until("the others are ready", self.all_ready(PODS[1:]))
        until("its old id counts as down", lambda: self.states().get(1) == "down")
        end = time.monotonic() + WATCHED_S
        while time.monotonic() < end:
            assert not self.cluster.ready("pilothouse-0"), "it says that it is ready"
            assert self.cluster.probe("pilothouse-0", "livenessProbe"), "it would be restarted"
            assert self.states().get(1) == "down", f"it counts as up: {self.states()}"
            time.sleep(1)
        written = self.ask("pilothouse-1", "token", "create", "--role", "router", "--id", "node-9")
        assert written.returncode == 0, f"writes do not go on: {written.stderr}"
        logged = docker("logs", self.cluster.container("pilothouse-0")).stderr
        *_, why = [json.loads(line)["obstacle"] for line in logged.splitlines() if '"obstacle"' in line]
        say(f"        alive and not ready for {WATCHED_S} s; writes went on; it says: {why}")

    def replace(self):
        say("7/7 README.md, a volume is lost: the pod joins again under a new id")
        self.follow("lost")
        until("three controllers are ready", self.all_ready(PODS))
        members = {m["id"]: (m["name"], m["role"]) for m in self.status()["members"]}
        names = {2: "pilothouse-1", 3: "pilothouse-2", 4: "pilothouse-0"}
        assert members == {id: (name, "voter") for id, name in names.items()}, members
        for node in NODES:
            until(f"{node} has controllers 2, 3 and 4", lambda node=node: self.listed(node) == [2, 3, 4])
        say("        controllers 2, 3 and 4 vote, 4 in pilothouse-0; both nodes' data planes read them")


# The commands of README.md, as far as it uses them.


def kubectl(rehearsal_of, words):
    folder, image, real = rehearsal_of
    cluster = Node(folder, image)
    namespace = "default"
    if words[0] == "-n":
        namespace, words = words[1], words[2:]
    verb, *rest = words
    if verb == "create" and rest[:2] == ["secret", "generic"]:
        plain = [word for word in rest if word not in ("--dry-run=client", "-o", "yaml")]
        made = subprocess.run(
            [real, "--namespace", namespace, "create", *plain, "--dry-run=client", "--output=yaml"],
            capture_output=True, text=True, timeout=WAIT_S, check=True,
        ).stdout
        if "--dry-run=client" in rest:
            return print(made)
        return cluster.store(*documents(made))
    if verb in ("apply", "replace") and rest == ["-f", "-"]:
        return cluster.store(*documents(sys.stdin.read()))
    if verb == "apply" and rest[0] == "-f":
        return documents(pathlib.Path(rest[1]).read_text())
    if verb == "apply" and rest[0] == "-k":
        command = [real, "kustomize", rest[1]]
        rendered = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
        (cluster.folder / "rendered.yaml").write_text(rendered.stdout)
        # All of the StatefulSet's at once, as podManagementPolicy says.
        for pod in cluster.manifests().controllers():
            if not docker("ps", "--quiet", "--all", "--filter", f"name=^{cluster.container(pod.name)}$").stdout:
                cluster.start(pod.name)
        return None
    if verb == "rollout" and rest[0] == "restart":
        # The highest ordinal first, and the next one once it is ready; minReadySeconds are not waited for.
        for pod in reversed(cluster.manifests().controllers()):
            cluster.delete(pod.name)
            cluster.start(pod.name)
            until(f"{pod.name} is ready", lambda name=pod.name: cluster.ready(name))
        return None
    if verb == "rollout":
        return until(" ".join(words), lambda: all(cluster.ready(pod.name) for pod in cluster.manifests().controllers()))
    if verb == "delete" and rest[0] == "pod":
        cluster.delete(rest[1])
        return cluster.start(rest[1])
    if verb == "get" and rest[0] == "nodes":
        return print(*NODES)
    if verb == "exec" and rest[1] == "--":
        # What was started a moment ago may not listen yet; a person would type it again.
        return until(" ".join(words), lambda: executed(cluster, rest[0], rest[2:]))
    raise AssertionError(f"README.md uses a kubectl that is not rehearsed: {words}")


def executed(cluster, pod, words):
    asked = docker("exec", cluster.container(pod), *words, check=False)
    if asked.returncode == 0:
        print(asked.stdout, end="")
    return asked.returncode == 0


def pilothouse(rehearsal_of, words):
    folder, image, _ = rehearsal_of
    mount = ["--volume", f"{folder}:{folder}", "--workdir", os.getcwd()]
    docker("run", "--rm", "--network", "none", "--user", "0:0", *mount, image, *words)


def main():
    if sys.argv[1:2] == ["--as"]:
        return {"kubectl": kubectl, "pilothouse": pilothouse}[sys.argv[2]](json.loads(os.environ["REHEARSAL"]), sys.argv[3:])
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    if os.geteuid() != 0:
        sys.exit("error: files of a Secret belong to root and a group: run this as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="pilothouse-rehearsal-")
    os.chmod(folder, 0o755)
    cluster = Node(folder, sys.argv[1])
    try:
        docker("network", "create", "--label", cluster.label, cluster.network)
        rehearsal = Rehearsal(folder, sys.argv[1], shutil.which(os.environ.get("KUBECTL", "kubectl")))
        for act in ("form", "enroll", "reboot", "renew", "mistake", "lose", "replace"):
            getattr(rehearsal, act)()
    except BaseException:
        for name in PODS + NODES:
            logs = docker("logs", "--tail", "15", cluster.container(name), check=False)
            print(f"--- {name}\n{logs.stdout}{logs.stderr}", file=sys.stderr)
        raise
    finally:
        ours = docker("ps", "--all", "--quiet", "--filter", f"label={cluster.label}").stdout.split()
        if ours:
            docker("rm", "--force", "--volumes", *ours)
        docker("network", "rm", cluster.network, check=False)
        shutil.rmtree(folder)
    say("everything held; nothing is left behind")


if __name__ == "__main__":
    main()
