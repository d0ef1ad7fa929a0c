"""A peer's secrets for secure sums: its key pair, the others' public keys, and a record of the inputs it has given."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping

from p2pser.base.atomic import append_line
from p2pser.base.errors import ConfigError, LocalProtocolError
from p2pser.base.wording import peer_list
from p2pser.config import Config
from p2pser.gossip.secrets import NONCE, Given
from p2pser.graph.spec import Topology
from p2pser.network import keys
from p2pser.network.keys import KeyPair
from p2pser.peer.folder import PeerFolder
from p2pser.peer.identity import user_secret


class PeerSecrets:
    """The secrets (gossip.secrets.Secrets) of the one peer of a process.

    Parameters
    ----------
    pair : its key pair.
    public : the public keys of all peers, by id.
    run : the run's name.
    folder : where the record is kept.
    draws : the key of the peer's draws (``peer.draws``); None: it has none.
    tell : is called with (round, sentence).
    """

    def __init__(self, pair: KeyPair, public: Mapping[int, str], run: str, folder: PeerFolder,
                 draws: bytes | None, tell: Callable[[int, str], None]) -> None:
        self._pair, self._public, self._run, self._draws, self._tell = pair, public, run, draws, tell
        self._shared: dict[int, bytes] = {}
        self._path = folder.sums
        self._given: dict[int, Given] = {}
        for line in self._path.read_bytes().splitlines() if self._path.exists() else ():
            try:
                round, own, roster, size = json.loads(line)
                self._given[int(round)] = Given(bytes.fromhex(own), bytes.fromhex(roster), int(size))
            except (ValueError, TypeError):
                continue  # damaged

    def shared(self, peer: int, other: int) -> bytes:
        """Return the secret of this peer and another: X25519 of their keys, the run's name in the derivation."""
        if other not in self._shared:
            self._shared[other] = keys.shared_secret(self._pair, self._public[other], self._run)
        return self._shared[other]

    def nonce(self, peer: int, round: int) -> bytes:
        """Return a new random nonce."""
        return secrets.token_bytes(NONCE)

    def own(self, peer: int) -> bytes:
        """Return the key of this peer's draws. Raises LocalProtocolError where it has none."""
        if self._draws is None:
            raise LocalProtocolError("the noise of a peer needs a secret key, and its draws have none")
        return self._draws

    def given(self, peer: int) -> Mapping[int, Given]:
        """Return the inputs that this peer has given, by round."""
        return self._given

    def give(self, peer: int, round: int, given: Given) -> bool:
        """Write an input to the record before it is given; return False if the disk does not take it."""
        if self._given.get(round) != given:
            try:
                append_line(self._path, json.dumps(
                    [round, given.input.hex(), given.roster.hex(), given.size]).encode() + b"\n")
            except OSError as error:
                self._tell(round, f"{self._path} cannot be written ({error.strerror}), so this peer sits out this "
                                  "round's sum: make room there")
                return False
            self._given[round] = given
        return True

    def tell(self, peer: int, round: int, what: str) -> None:
        """Report a sentence about the sum of a round."""
        self._tell(round, what)


def public_keys(config: Config, topology: Topology) -> dict[int, str]:
    """Return the public keys of all peers: those of the topology file, or derived from the user's secret.

    Raises ConfigError where the file gives keys, but not of all peers: any two peers share a secret, neighbours or not.
    """
    given = {i: entry.key for i, entry in topology.peers.items() if entry.key is not None}
    if not given:
        secret = user_secret(config)
        return {i: keys.derive(secret, config.name, i).public for i in range(topology.size)}
    if missing := sorted(set(range(topology.size)) - given.keys()):
        raise ConfigError(f"gossip.algorithm={config.gossip.algorithm} needs the public keys of all peers, and the "
                          f"topology {topology.name!r} gives none of {peer_list(missing)}: "
                          "add them (p2pser keys makes a pair)")
    return given
