"""Who a peer is: its keys, and the addresses of itself and its neighbours."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.config import Config
from p2pser.graph.spec import PeerEntry, Topology, load
from p2pser.network import keys
from p2pser.peer.draws import key_of_draws
from p2pser.peer.folder import PeerFolder
from p2pser.peer.identity import address, identify, listen
from p2pser.peer.summing import public_keys


def ring(entries: dict[int, PeerEntry] | None = None) -> Topology:
    return dataclasses.replace(load("ring", peers=4), peers=entries or {})


def config(tmp_path: Path, *settings: str) -> Config:
    return Config().with_settings([f"network.secret={tmp_path / 'secret'}", *settings])


def test_peers_of_one_user_know_each_other(tmp_path: Path) -> None:
    ours = {i: identify(config(tmp_path), ring(), i) for i in range(4)}
    for i, one in ours.items():
        assert {n.peer: n.key for n in one.neighbours} == {j: ours[j].keys.public for j in ring().neighbours(i)}
        assert {n.peer: n.address for n in one.neighbours} == {j: ours[j].listen for j in ring().neighbours(i)}
    assert ours[2].listen == "tcp://127.0.0.1:5702"
    assert len({one.keys.public for one in ours.values()}) == 4


def test_without_a_home_that_can_be_written_the_secret_lies_beside_the_runs(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file" / "config"))
    one = identify(Config().with_settings([f"peer.out={tmp_path / 'runs'}"]), ring(), 0)
    secret = (tmp_path / "runs" / "secret").read_bytes()
    assert len(secret) == 32
    out = Config().with_settings([f"peer.out={tmp_path / 'runs'}"])
    assert public_keys(out, ring())[0] == one.keys.public  # secure sums and draws use the same secret
    folder = PeerFolder(out, ring(), 0)
    folder.path.mkdir(parents=True)
    assert key_of_draws(out, ring(), 0, folder) == keys.derive_draws(secret, out.seed, 0)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    other = identify(Config().with_settings([f"peer.out={tmp_path / 'runs'}"]), ring(), 0)
    assert (tmp_path / "config" / "p2pser" / "secret").is_file()
    assert one.keys.public != other.keys.public


def test_a_secret_that_another_peer_makes_meanwhile_is_the_users(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two peers that a user starts for the first time have one secret, however their starts fall together."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    usual, looked = keys.default_secret_path(), os.path.exists

    def exists(path: os.PathLike[str] | str) -> bool:
        there = looked(path)
        if path == usual and not there:
            usual.parent.mkdir(parents=True)
            usual.touch(mode=0o600)
            usual.write_bytes(bytes(range(32)))
        return there

    monkeypatch.setattr(os.path, "exists", exists)
    one, other = (identify(Config().with_settings([f"peer.out={tmp_path / 'runs'}"]), ring(), i) for i in (0, 1))
    assert one.neighbours[0].key == other.keys.public
    assert not (tmp_path / "runs").exists()


def test_another_run_has_other_keys(tmp_path: Path) -> None:
    one, other = (identify(config(tmp_path, f"name={name}"), ring(), 0) for name in ("a", "b"))
    assert one.keys.public != other.keys.public
    assert "secret" not in repr(one)


@pytest.mark.parametrize(("entry", "dialled", "bound"), [
    (PeerEntry(), "tcp://127.0.0.1:5701", "tcp://127.0.0.1:5701"),
    (PeerEntry(address="tcp://192.0.2.7:9000"), "tcp://192.0.2.7:9000", "tcp://*:9000"),
    (PeerEntry(address="tcp://example.org:9000"), "tcp://example.org:9000", "tcp://*:9000"),
    (PeerEntry(address="tcp://localhost:9000"), "tcp://localhost:9000", "tcp://localhost:9000"),
    (PeerEntry(address="tcp://[::1]:9000"), "tcp://[::1]:9000", "tcp://[::1]:9000"),
    (PeerEntry(address="tcp://gate.example:1", listen="tcp://10.0.0.5:2"), "tcp://gate.example:1", "tcp://10.0.0.5:2"),
    (PeerEntry(listen="tcp://*:2"), "tcp://127.0.0.1:5701", "tcp://*:2"),
    (PeerEntry(address="tcp://[2001:db8::1]:9000"), "tcp://[2001:db8::1]:9000", "tcp://*:9000"),
    (PeerEntry(address="none"), None, None),
])
def test_where_a_peer_is_dialled_and_where_it_listens(entry: PeerEntry, dialled: str | None,
                                                      bound: str | None) -> None:
    topology = ring({1: entry})
    assert address(Config(), topology, 1) == dialled
    assert listen(Config(), topology, 1) == bound


def test_ports_beyond_the_last_are_refused() -> None:
    settings = Config().with_settings(["network.base_port=65534"])
    assert address(settings, ring(), 1) == "tcp://127.0.0.1:65535"
    with pytest.raises(TopologyError, match="peer 2 would listen on port 65536"):
        address(settings, ring(), 2)


def keyed(tmp_path: Path, **secret_key: Any) -> tuple[Topology, list[keys.KeyPair]]:
    pairs = [keys.make() for _ in range(4)]
    for i, pair in enumerate(pairs):
        keys.write_key_pair(tmp_path / f"peer-{i}.key", pair)
    return ring({i: PeerEntry(key=pair.public) for i, pair in enumerate(pairs)}), pairs


def test_keys_of_the_topology_file_count(tmp_path: Path) -> None:
    topology, pairs = keyed(tmp_path)
    one = identify(config(tmp_path, f"network.secret_key={tmp_path / 'peer-1.key'}"), topology, 1)
    assert one.keys == pairs[1]
    assert {n.peer: n.key for n in one.neighbours} == {0: pairs[0].public, 2: pairs[2].public}
    assert not (tmp_path / "secret").exists()


def test_a_missing_or_wrong_secret_key_is_named(tmp_path: Path) -> None:
    topology, _ = keyed(tmp_path)
    with pytest.raises(ConfigError, match="name the file of peer 1's secret key"):
        identify(config(tmp_path), topology, 1)
    with pytest.raises(ConfigError, match="does not belong to the key"):
        identify(config(tmp_path, f"network.secret_key={tmp_path / 'peer-2.key'}"), topology, 1)
    with pytest.raises(ConfigError, match="cannot read the key file"):
        identify(config(tmp_path, f"network.secret_key={tmp_path / 'nothing'}"), topology, 1)


def test_a_peer_outside_the_topology_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="no peer 7"):
        identify(config(tmp_path), ring(), 7)
