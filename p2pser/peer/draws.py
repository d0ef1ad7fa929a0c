"""The secret key of a peer's random draws of batches, dropout and augmentation.

The run's seed is known to all peers: a neighbour that knew a peer's draws too could infer the clips of a step, and undo
dropout. So these draws are keyed by 32 bytes that stay in the peer's folder. Its checkpoints hold them as well, so that
a peer resumes with the same draws if the file was lost.
"""

from __future__ import annotations

import secrets

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.graph.spec import Topology
from p2pser.network import keys
from p2pser.peer.folder import DRAWS, PeerFolder
from p2pser.peer.identity import user_secret
from p2pser.run import checkpoint

KEY = "draws"
"""The field of a checkpoint's meta data that holds the key."""


def key_of_draws(config: Config, topology: Topology, me: int, folder: PeerFolder) -> bytes | None:
    """Return the key of peer ``me``'s draws (32 bytes), made at its first start; None where the run's seed keys them.

    Raises ConfigError where the key's file cannot be used, or a budget needs a secret key and the seed is to be used.
    """
    if config.privacy.draws == "seed" and config.privacy.epsilon is not None:
        raise ConfigError("privacy.epsilon needs noise that no other peer can compute, and privacy.draws=seed draws it "
                          "from the run's seed, which all peers know: set privacy.draws=secret")
    if config.privacy.draws == "seed":
        return None
    return keys.load_or_make_secret(folder.path / DRAWS, lambda: _kept(folder) or _new(config, topology, me))


def seed_of(key: bytes | None) -> int | None:
    """Return the number that keys the draws in place of the run's seed; None: the seed keys them."""
    return None if key is None else int.from_bytes(key, "little")


def _kept(folder: PeerFolder) -> bytes | None:
    """Return the key in the newest checkpoint that has one."""
    for round in reversed(checkpoint.available(folder.checkpoints)):
        if (key := checkpoint.load(folder.checkpoints, round).meta.get(KEY)) is not None:
            return bytes.fromhex(key)
    return None


def _new(config: Config, topology: Topology, me: int) -> bytes:
    if config.privacy.epsilon is not None or any(entry.key is not None for entry in topology.peers.values()):
        return secrets.token_bytes(keys.SECRET_BYTES)
    # All peers belong to one user: a run that is repeated on one machine has the same bits.
    return keys.derive_draws(user_secret(config), config.seed, me)
