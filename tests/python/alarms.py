#!/usr/bin/env python3
"""Alarms of a real cluster and its routers, as a real Alertmanager shows them: raised, grouped, resolved.

Usage: alarms.py BINARY ALERTMANAGER. Everything listens on loopback. Needs nothing but Python.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from check import Cluster, free_ports, wait_for

ROUTES = """
route:
  receiver: nobody
  group_by: [alertname, team]
  group_wait: 1s
receivers:
  - name: nobody
"""


class Alertmanager:
    def __init__(self, binary, folder):
        config, log = folder / "alertmanager.yml", open(folder / "alertmanager.log", "wb")
        config.write_text(ROUTES)
        # Above those that the cluster takes.
        (port,) = free_ports(1, first=16_000)
        self.url = f"http://127.0.0.1:{port}"
        command = [binary, f"--config.file={config}", f"--storage.path={folder / 'alertmanager'}"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def get(self, path):
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/{path}", timeout=5) as answer:
                return json.load(answer)
        except (OSError, urllib.error.URLError):
            return None

    def alerts(self, name):
        found = self.get("alerts") or []
        return [alert for alert in found if alert["labels"]["alertname"] == name]

    def fires(self, name, *instances):
        def right():
            alerts = self.alerts(name)
            return {alert["labels"]["instance"] for alert in alerts} == set(instances) and alerts, self.get("alerts")

        return wait_for(f"{name} of {instances} fires", right)

    def resolved(self, name):
        # Its end is told a minute after its beginning, or later.
        wait_for(f"{name} is resolved", lambda: (not self.alerts(name), self.get("alerts")), within_s=90)


class Router:
    """A real router, with an identity of its own or somebody else's."""

    def __init__(self, cluster, name, alerts, router_id=None):
        self.cluster, self.log = cluster, cluster.folder / f"{name}.log"
        seeds = json.dumps([cluster.address(place) for place in range(3)])
        self.config = cluster.folder / f"{name}.toml"
        self.config.write_text(
            f'id = "{router_id or name}"\ndata_dir = "{cluster.folder / name}"\nseeds = {seeds}\n'
            f"no_controller_after_ms = 1000\n[tls]\ninsecure = true\n"
            + (f'[alerts]\nurl = "{alerts.url}"\nlabels = {{ team = "edge" }}\n' if alerts else "")
        )
        # What controllers are told by variables is not meant for routers.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")}
        with open(self.log, "wb") as log:
            command = [cluster.binary, "router", "run", "--config", self.config]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def current(cluster, *names):
    listed = json.loads(cluster.cli("routers", "list", "-o", "json").stdout or "{}").get("routers", [])
    held = {router["id"] for router in listed if router["current"]}
    return held >= set(names), listed


def check(cluster, alerts, processes):
    wait_for("the Alertmanager is up", lambda: (alerts.get("status"), None))
    # Controllers tell of everything: of two routers with one id too.
    cluster.environment.update(PILOTHOUSE_ALERTS__URL=alerts.url, PILOTHOUSE_ALERTS__SEVERITY="info")
    cluster.found()
    processes += [Router(cluster, name, alerts).process for name in ("edge-1", "edge-2")]
    # It has no webhook of its own: controllers alarm in its name.
    processes.append(Router(cluster, "edge-4", None).process)
    wait_for("routers hold the list", lambda: current(cluster, "edge-1", "edge-2", "edge-4"))
    identity = json.loads(cluster.cli("cluster", "status", "-o", "json").stdout)["cluster_id"]
    assert alerts.alerts("NoControllerReachable") == []

    # These two alarm nobody themselves, and whoever loses stays away for long.
    twins = [Router(cluster, name, None, router_id="edge-3").process for name in ("edge-3", "edge-3-again")]
    processes += twins

    def told_by_a_controller():
        # The twins report it too, over their sessions, and a controller passes that on in their name: in any order.
        superseded = alerts.alerts("SessionSuperseded")
        assert all(alert["labels"]["subject"] == "router edge-3" for alert in superseded), superseded
        instances = [alert["labels"]["instance"] for alert in superseded]
        return any(name.startswith("controller controller-") for name in instances), superseded

    wait_for("a controller alarms of two routers with one id", told_by_a_controller)
    for twin in twins:
        twin.send_signal(signal.SIGTERM)
        twin.wait()
    print("a controller alarms")

    for place in range(3):
        cluster.kill(place)
    for alert in alerts.fires("NoControllerReachable", "router edge-1", "router edge-2"):
        labels = alert["labels"]
        assert (labels["severity"], labels["team"], labels["cluster"]) == ("error", "edge", identity), alert
        assert labels["subject"] == labels["instance"], alert
        assert "stays in use" in alert["annotations"]["summary"] and alert["annotations"]["hint"], alert
    groups = [group for group in alerts.get("alerts/groups") if group["labels"]["alertname"] == "NoControllerReachable"]
    assert [group["labels"] for group in groups] == [{"alertname": "NoControllerReachable", "team": "edge"}], groups
    assert len(groups[0]["alerts"]) == 2, groups
    print("routers that reach nobody alarm, as one group")

    cluster.again()

    def told_afterwards():
        unreached = alerts.alerts("NoControllerReachable")
        return any(alert["labels"]["instance"] == "router edge-4" for alert in unreached), unreached

    wait_for("a controller alarms of what is over already", told_afterwards)
    print("a router without a webhook alarms through a controller, afterwards")
    alerts.resolved("NoControllerReachable")
    wait_for("routers hold the list", lambda: current(cluster, "edge-1", "edge-2"))
    print("resolved when it was over")


def main():
    binary, alertmanager = (os.path.abspath(path) for path in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        cluster, processes = Cluster(binary, folder), []
        alerts = Alertmanager(alertmanager, pathlib.Path(folder))
        processes.append(alerts.process)
        try:
            check(cluster, alerts, processes)
        except BaseException:
            for log in sorted(cluster.folder.glob("*.log")):
                print(f"--- {log.name}\n" + "\n".join(log.read_text().splitlines()[-20:]))
            raise
        finally:
            for process in [*cluster.running.values(), *processes]:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
