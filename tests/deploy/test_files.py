"""The files of ``deploy/`` fit p2pser: its options, its exit codes, its topology files, and each other."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from p2pser.cli.peer import peer
from p2pser.graph.spec import Topology, load
from p2pser.run.account import INCOMPLETE

DEPLOY = Path(__file__).parents[2] / "deploy"
IMAGE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def options(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the options of a command line of ``p2pser peer``. Raises click's error for one that it refuses."""
    name, *rest = arguments
    assert name == "peer"
    return peer.make_context("peer", list(rest), resilient_parsing=False).params


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def neighbours_can_dial(topology: Topology) -> bool:
    return all(entry.address not in (None, "none") for entry in topology.peers.values())


@pytest.fixture
def unit() -> dict[str, list[str]]:
    """The unit's settings; each may be set several times."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "p2pser@.service").read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_starts_a_peer_that_tells_it_that_it_lives(unit: dict[str, list[str]]) -> None:
    (command,) = unit["ExecStart"]
    arguments = shlex.split(command.replace("%i", "3").replace("%S", "/var/lib").replace("$OPTIONS", "--rounds 4"))
    assert options(arguments[1:])["me"] == 3
    assert (unit["Type"], unit["NotifyAccess"], unit["WatchdogSec"]) == (["notify"], ["main"], ["15min"])
    assert unit["SuccessExitStatus"] == [str(INCOMPLETE)]
    assert unit["RestartPreventExitStatus"] == [str(click.UsageError.exit_code)]
    assert unit["ExecReload"] == ["kill -HUP $MAINPID"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "p2pser@.service").read_text(encoding="utf-8")
    (tmp_path / "p2pser@.service").write_text(text.replace("/opt/p2pser/bin/p2pser", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(tmp_path / "p2pser@.service")], text=True,
                          capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_runs_as_a_user_and_writes_where_volumes_are() -> None:
    assert re.search(r"^USER 10001$", IMAGE, re.M)
    places = dict(re.findall(r"(\w+)=(/\S+)", IMAGE[IMAGE.index("\nENV "):IMAGE.index("\nUSER ")]))
    assert {name for name, place in places.items() if place.startswith(("/data/", "/tmp/"))} == {
        "P2PSER_CACHE", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "P2PSER_ALIVE"}
    assert {"VOLUME /data", "WORKDIR /data", 'ENTRYPOINT ["p2pser"]'} <= set(IMAGE.splitlines())
    assert 'find "$P2PSER_ALIVE" -mmin -15' in IMAGE


def test_the_composed_sites_know_each_other() -> None:
    (compose,) = documents("compose.yaml")
    topology = load(str(DEPLOY / "three-sites.yaml"))
    assert neighbours_can_dial(topology)
    for i, (name, service) in enumerate(sorted(compose["services"].items())):
        assert topology.peers[i].address == f"tcp://{name}:5700"
        chosen = options(service["command"])
        assert chosen["me"] == i
        mounted = {volume.split(":", 2)[1] if "${" not in volume else volume.split(":")[-2]
                   for volume in service["volumes"]}
        assert mounted == {"/data", "/etc/three-sites.yaml", "/recordings"}
        assert service["read_only"]
        assert service["tmpfs"] == ["/tmp"]
    assert len(compose["services"]) == topology.size == 3


def test_a_pod_is_the_peer_of_its_number(tmp_path: Path) -> None:
    config, service, stateful = documents("kubernetes.yaml")
    (tmp_path / "topology.yaml").write_text(config["data"]["topology.yaml"], encoding="utf-8")
    topology = load(str(tmp_path / "topology.yaml"))
    spec = stateful["spec"]
    pod = spec["template"]["spec"]
    assert spec["replicas"] == topology.size
    assert spec["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert service["spec"]["clusterIP"] == "None"
    for i, entry in topology.peers.items():
        assert entry.address == f"tcp://{stateful['metadata']['name']}-{i}.{spec['serviceName']}:5700"
    (container,), (key,) = pod["containers"], pod["initContainers"]
    shell = container["args"][0].replace("exec p2pser", "printf '%s\\n'")
    words = subprocess.run(["sh", "-c", shell], env={"HOSTNAME": "p2pser-2", "PATH": "/usr/bin:/bin"}, text=True,
                           capture_output=True, check=True).stdout.splitlines()
    assert options(words)["me"] == 2
    assert "network.secret_key=keys/peer-2.key" in words
    assert (options(words)["metrics"], options(words)["log_format"]) == ("*:9100", "json")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probe = container["livenessProbe"]
    assert (ports[probe["httpGet"]["port"]], probe["httpGet"]["path"]) == (9100, "/health")
    assert probe["periodSeconds"] * probe["failureThreshold"] == 15 * 60
    assert "p2pser keys --id" in key["args"][0]
    volumes = {volume["name"] for volume in pod["volumes"]} | {
        claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsUser"] == int(re.findall(r"^USER (\d+)$", IMAGE, re.M)[0])
