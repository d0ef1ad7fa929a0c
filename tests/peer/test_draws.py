"""The secret key of a peer's draws: made once, private, kept in checkpoints, and of no use to another peer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.graph.spec import Topology, load, parse
from p2pser.network import keys
from p2pser.peer.draws import KEY, key_of_draws, seed_of
from p2pser.peer.folder import DRAWS, PeerFolder
from p2pser.run import checkpoint

PUBLIC = [keys.derive(b"k" * 32, "run", i).public for i in range(3)]
KEYED = parse({"graph": {"kind": "ring", "peers": 3}, "weights": "metropolis",
               "peers": {i: {"address": f"tcp://192.0.2.{i}:5700", "key": its} for i, its in enumerate(PUBLIC)}},
              "sites")
OWN = load("ring", peers=3)


def key(folder: Path, topology: Topology = KEYED, me: int = 1, *settings: str, secret: str = "secret") -> bytes | None:
    config = Config().with_settings([f"peer.out={folder}", f"network.secret={folder / secret}", *settings])
    where = PeerFolder(config, topology, me)
    where.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return key_of_draws(config, topology, me, where)


def path(folder: Path) -> Path:
    return folder / "run" / "peer-1"


@pytest.mark.parametrize("topology", [KEYED, OWN])
def test_a_key_is_made_at_the_first_start_and_is_private(tmp_path: Path, topology: Topology) -> None:
    made = key(tmp_path, topology)
    assert made is not None
    assert len(made) == 32
    file = path(tmp_path) / DRAWS
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (made, 0o600)
    assert key(tmp_path, topology, 1, "seed=7", secret="other") == made
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="other users may read"):
        key(tmp_path, topology)


def test_sites_draw_by_random_keys_and_one_users_peers_by_keys_of_the_users_secret(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert key(first) != key(second)
    for folder in (first, second):
        (folder / "secret").unlink(missing_ok=True)
        (path(folder) / DRAWS).unlink()
    own = key(first, OWN)
    (second / "secret").write_bytes((first / "secret").read_bytes())
    (second / "secret").chmod(0o600)
    assert key(second, OWN) == own
    assert len({own, key(first, OWN, 2), key(tmp_path / "c", OWN, 1, "seed=1")}) == 3


def test_a_lost_key_comes_from_the_newest_checkpoint(tmp_path: Path) -> None:
    made = key(tmp_path)
    assert made is not None
    for round, its in ((2, b"x" * 32), (4, made)):
        checkpoint.save(path(tmp_path) / "checkpoint", round, {"x": torch.zeros(1, 2)}, {}, {KEY: its.hex()})
    (path(tmp_path) / DRAWS).unlink()
    assert key(tmp_path) == made


def test_the_runs_seed_needs_no_key(tmp_path: Path) -> None:
    assert key(tmp_path, KEYED, 1, "privacy.draws=seed") is None
    assert not (path(tmp_path) / DRAWS).exists()
    assert seed_of(None) is None
    assert seed_of(b"\x02\x01" + bytes(30)) == 258


def test_the_noise_of_a_budget_needs_a_random_key_of_its_own(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    own = key(first, OWN, 1, "privacy.epsilon=3")
    assert own is not None
    second.mkdir()
    for folder in (first, second):  # one user
        (folder / "secret").write_bytes(b"k" * 32)
        (folder / "secret").chmod(0o600)
    assert key(second, OWN, 1, "privacy.epsilon=3") != own
    with pytest.raises(ConfigError, match=r"set privacy\.draws=secret"):
        key(first, OWN, 1, "privacy.epsilon=3", "privacy.draws=seed")
