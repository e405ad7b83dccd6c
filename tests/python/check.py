#!/usr/bin/env python3
"""Routers written in Python against a real cluster: they register, follow its members, fail over; no list is empty.

Usage: check.py BINARY. Run with a Python that has grpcio and grpcio-tools. Everything listens on loopback.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto" / "router.proto"
SOON_S = 30


def wait_for(what, condition, within_s=SOON_S):
    """Looks until there is something, or fails with what was seen last."""
    ends = time.monotonic() + within_s
    while True:
        found, seen = condition()
        if found:
            return found
        if time.monotonic() > ends:
            raise SystemExit(f"not within {within_s} s: {what}; last seen: {seen}")
        time.sleep(0.05)


def free_ports(count, first=10_000):
    """Ports below those that the system draws for outgoing connections, so that nobody takes them in between."""
    ports, port = [], first + os.getpid() % 5_000
    while len(ports) < count:
        port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                ports.append(port)
            except OSError:
                pass
    return ports


class Cluster:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, pathlib.Path(folder)
        ports = free_ports(16)
        self.ports = [dict(zip(("peer", "router", "admin", "http"), ports[at : at + 4])) for at in range(0, 16, 4)]
        self.running = {}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")}

    def start(self, place, bootstrap):
        listen = "".join(f'{name} = "127.0.0.1:{port}"\n' for name, port in self.ports[place].items())
        name = f"controller-{place + 1}"
        config = self.folder / f"{name}.toml"
        data = f'name = "{name}"\ndata_dir = "{self.folder / name}"\n'
        config.write_text(f"{data}{bootstrap}\n[listen]\n{listen}[tls]\ninsecure = true\n")
        with open(self.folder / f"{name}.log", "ab") as log:
            command = [self.binary, "controller", "run", "--config", config]
            self.running[place] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )

    def found(self):
        member = '{{ id = {}, name = "controller-{}", peer = "{}" }}'
        members = ", ".join(member.format(place + 1, place + 1, self.address(place, "peer")) for place in range(3))
        self.founders = [f"id = {place + 1}\ninitial_members = [{members}]" for place in range(3)]
        self.again()

    def again(self):
        """Starts the three that founded it."""
        for place, bootstrap in enumerate(self.founders):
            self.start(place, bootstrap)
        wait_for("three members are up", lambda: self.up(3))

    def up(self, count):
        answer = self.cli("cluster", "status", "-o", "json")
        status = json.loads(answer.stdout or "{}")
        alive = [member for member in status.get("members", []) if member["state"] == "up"]
        return status.get("leader") and len(alive) == count and status, answer

    def address(self, place, surface="router"):
        return f"http://127.0.0.1:{self.ports[place][surface]}"

    def cli(self, *arguments):
        endpoints = ",".join(self.address(place, "admin") for place in self.running)
        environment = {**self.environment, "PILOTHOUSE_ENDPOINT": endpoints, "PILOTHOUSE_INSECURE": "yes"}
        command = [self.binary, *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)

    def done(self, *arguments):
        answer = self.cli(*arguments)
        if answer.returncode != 0:
            raise SystemExit(f"{arguments}: {answer}")

    def kill(self, place):
        process = self.running.pop(place)
        process.kill()
        process.wait()


class Router:
    """A process of router.py, and what it told so far."""

    def __init__(self, name, protocol, seed):
        self.name, self.events = name, []
        command = [sys.executable, HERE / "router.py", "--proto", PROTO, "--id", name, "--seed", seed]
        self.process = subprocess.Popen(
            [*command, "--protocol", str(protocol)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.reads = threading.Thread(target=self.read, daemon=True)
        self.reads.start()

    def read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def all(self, event):
        return [told for told in self.events if told["event"] == event]

    def holds(self, addresses, *, not_from=None):
        """Waits until the last list names exactly these."""

        def right():
            lists = self.all("list")
            held = lists and sorted(lists[-1]["addresses"]) == sorted(addresses)
            return held and lists[-1]["address"] != not_from and lists[-1], self.events

        return wait_for(f"{self.name} holds {addresses}", right)

    def stop(self):
        self.process.stdin.write("stop\n")
        self.process.stdin.close()
        code = self.process.wait(timeout=SOON_S)
        self.reads.join()
        assert code == 0, f"{self.name} ended with {code}"
        lists = self.all("list")
        assert all(told["taken"] and told["addresses"] for told in lists), f"empty or older: {lists}"
        assert self.all("refused") == [], self.events


def check(cluster, routers):
    leader = cluster.up(3)[0]["leader"] - 1
    seed, spare = (leader + 1) % 3, (leader + 2) % 3
    # They know one controller, which is not the leader: the others they have from the list.
    for protocol in (1, 2):
        routers.append(Router(f"python-{protocol}", protocol, cluster.address(seed)))
    places = [0, 1, 2]
    for router in routers:
        first = router.holds([cluster.address(place) for place in places])
        assert first["address"] == cluster.address(seed), first
        assert router.all("registered")[0]["effect"] == "EFFECT_NEW", router.events
    listed = json.loads(cluster.cli("routers", "list", "-o", "json").stdout)["routers"]
    shown = {router["id"]: (router["registered"], router["protocol"]) for router in listed}
    assert shown == {"python-1": (True, 1), "python-2": (True, 2)}, listed
    print("registered, and the list is held")

    cluster.start(3, "join = true")
    peer = cluster.address(3, "peer")
    wait_for("a newcomer is added", lambda: added(cluster.cli("cluster", "add", "--peer", peer, "--wait")))
    cluster.done("cluster", "promote", "4", "--wait")
    for router in routers:
        router.holds([cluster.address(place) for place in (0, 1, 2, 3)])
    cluster.done("cluster", "demote", str(spare + 1))
    cluster.done("cluster", "remove", str(spare + 1))
    cluster.kill(spare)
    left = [cluster.address(place) for place in (leader, seed, 3)]
    for router in routers:
        router.holds(left)
    print("followed a member that came and one that went")

    cluster.kill(seed)
    moved = f"http://localhost:{cluster.ports[3]['router']}"
    for router in routers:
        router.holds(left, not_from=cluster.address(seed))
        assert router.all("lost"), router.events
    cluster.done("cluster", "readdress", "4", "--router", moved)
    for router in routers:
        router.holds([cluster.address(leader), cluster.address(seed), moved])
        router.stop()
    print("failed over, and followed there; no list was empty or older")


def added(answer):
    return answer.returncode == 0, answer


def main():
    binary = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        cluster, routers = Cluster(binary, folder), []
        try:
            cluster.found()
            check(cluster, routers)
        except BaseException:
            for log in sorted(cluster.folder.glob("*.log")):
                print(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-20:]))
            raise
        finally:
            for process in [*cluster.running.values(), *(router.process for router in routers)]:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
