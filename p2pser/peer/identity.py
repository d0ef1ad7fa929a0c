"""A peer's identity on the network: its key pair, its addresses and those of its neighbours."""

from __future__ import annotations

import os
from dataclasses import dataclass

from p2pser.base.errors import ConfigError, TopologyError
from p2pser.base.hosts import EVERYWHERE, host_of, only_ipv6
from p2pser.base.paths import can_be_written
from p2pser.base.signing import fingerprint
from p2pser.config import Config
from p2pser.graph.file_format import NOWHERE
from p2pser.graph.spec import PeerEntry, Topology
from p2pser.network import keys
from p2pser.network.keys import KeyPair
from p2pser.network.neighbour import Contact

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Identity:
    """A peer's key pair, the endpoint on which it listens (None: no peer can dial it), and its neighbours."""

    keys: KeyPair
    listen: str | None
    neighbours: tuple[Contact, ...]


def identify(config: Config, topology: Topology, me: int) -> Identity:
    """Return the identity of peer ``me``.

    If the topology file gives keys, these are used, and ``network.secret_key`` names the file of this peer's secret
    key. Otherwise all keys are derived from the user's secret, so that the peers of one user can authenticate each
    other. Raises TopologyError where the topology has no such peer, ConfigError where the secret key is missing or does
    not belong to the peer's public key.
    """
    neighbours = topology.neighbours(me)
    if me in topology.retired:
        raise TopologyError(f"peer {me} has left for good: the topology {topology.name!r} retires it")
    given = {i: entry.key for i, entry in topology.peers.items() if entry.key is not None}
    if given:
        key_pair = _own_key(config, topology, me)
        public = given
    elif config.network.secret_key is not None:
        raise ConfigError(f"network.secret_key names a file, and the topology {topology.name!r} gives no keys: write "
                          "each peer's public key into it (p2pser keys prints the line), or leave the setting out")
    else:
        secret = user_secret(config)
        key_pair = keys.derive(secret, config.name, me)
        public = {j: keys.derive(secret, config.name, j).public for j in neighbours}
    addresses = {j: address(config, topology, j) for j in neighbours}
    return Identity(key_pair, listen(config, topology, me),
                    tuple(Contact(j, at, public[j], at is not None and only_ipv6(host_of(at)), not given)
                          for j, at in addresses.items()))


def signature(config: Config, topology: Topology) -> str:
    """Return a sentence that names the signer of the topology file, empty if it is not signed.

    Raises TopologyError where ``network.author`` is set and has not signed it.
    """
    by, wanted = topology.signed_by, config.network.author
    if wanted is not None and by != wanted:
        who = f"is signed by {fingerprint(by)}" if by else "is not signed"
        raise TopologyError(f"the topology {topology.name!r} {who}, and this site accepted an invitation of "
                            f"{fingerprint(wanted)}: get the file from that author, or accept the new author's "
                            "invitation")
    known = "" if wanted else "; compare this fingerprint with its author by telephone"
    return f"topology {topology.name}, signed by {fingerprint(by)}{known}" if by else ""


def address(config: Config, topology: Topology, i: int) -> str | None:
    """Return the address at which peer ``i`` is dialled; None if it cannot be dialled.

    It is the peer's ``address:``, else ``network.host`` and port ``network.base_port`` + i. Raises TopologyError where
    that port is above 65535.
    """
    entry = topology.peers.get(i, PeerEntry())
    if entry.address == NOWHERE:
        return None
    port = config.network.base_port + i
    if entry.address is None and port > 65535:
        raise TopologyError(f"peer {i} would listen on port {port}: give it an address, or lower network.base_port")
    return entry.address or f"tcp://{config.network.host}:{port}"


def listen(config: Config, topology: Topology, i: int) -> str | None:
    """Return the endpoint on which peer ``i`` listens; None if no peer can dial it.

    It is the peer's ``listen:``, else its address if that is a loopback address, else its port on all interfaces.
    """
    entry = topology.peers.get(i, PeerEntry())
    if entry.listen is not None:
        return entry.listen
    dialled = address(config, topology, i)
    if dialled is None:
        return None
    return dialled if host_of(dialled) in LOOPBACK else f"tcp://{EVERYWHERE}:{dialled.rpartition(':')[2]}"


def user_secret(config: Config) -> bytes:
    """Return the user's secret, made at first use; errors as ``network.keys.load_or_make_secret``.

    It is in the file ``network.secret``, else in the user's configuration folder. If it is not there, and the folder
    cannot be written, it is beside the runs.
    """
    usual = keys.default_secret_path()
    fits = os.path.exists(usual) or can_be_written(usual.parent)
    return keys.load_or_make_secret(config.network.secret or (usual if fits else config.peer.out / "secret"))


def _own_key(config: Config, topology: Topology, me: int) -> KeyPair:
    path = config.network.secret_key
    if path is None:
        raise ConfigError(f"the topology {topology.name!r} gives keys: name the file of peer {me}'s secret key "
                          "(--set network.secret_key=FILE; p2pser keys makes one)")
    key_pair = keys.read_secret_key(path)
    if key_pair.public != topology.peers[me].key:
        raise ConfigError(f"the secret key in {path} does not belong to the key that the topology "
                          f"{topology.name!r} gives peer {me}; use that peer's file, or correct the topology")
    return key_pair
