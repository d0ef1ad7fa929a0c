"""A site that is invited to a run: its settings, its key, and what it must correct before it can take part."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2pser.base.atomic import put
from p2pser.base.documents import as_yaml
from p2pser.base.errors import ConfigError
from p2pser.base.paths import expanded
from p2pser.config import Config
from p2pser.corpora.labels import NO_CLIPS
from p2pser.gossip.mode import by_mode, what_neighbours_learn
from p2pser.gossip.registry import create
from p2pser.graph.spec import PeerEntry
from p2pser.network.keys import make, read_secret_key, write_key_pair
from p2pser.peer import invitation
from p2pser.peer.invitation import Invitation, Reply
from p2pser.peer.own_checks import Finding, reading, recordings

SITE_KEY = "peer.key"


@dataclass(frozen=True)
class Site:
    """An invited site: its folder and settings, the results of its checks, and what it should know of the run."""

    folder: Path
    config: Config
    findings: tuple[Finding, ...]
    sentences: tuple[str, ...]


def site_of(invited: Invitation, folder: Path, data: Path, own: Sequence[str]) -> Site:
    """Return this site as an invitation describes it; nothing is written.

    folder : for the site's files. data : its recordings, or ``none``. own : its settings, ``section.field=value``; none
    of them may be a setting that all sites must have equal.

    Raises ConfigError where a setting is wrong.
    """
    common = invited.config()
    relays = str(data) == NO_CLIPS
    place = {"corpus.name": NO_CLIPS if relays else "auto",
             **({} if relays else {"corpus.data": str(expanded(data).absolute())}),
             "corpus.partition": "own", "corpus.split": "none", "network.secret_key": str(folder / SITE_KEY),
             "network.author": invited.by, "peer.out": str(folder / "runs")}
    config = common.with_settings([*(f"{name}={as_yaml(value)}" for name, value in place.items()), *own])
    shared = config.shared()
    for name, value in common.shared().items():
        if shared[name] != value:
            raise ConfigError(f"--set {name}: all sites must have this setting equal, and the invitation has "
                              f"{value!r}; ask its author to change it for all")
    # The topology once all sites have replied: each peer has a key.
    keyed = make().public
    topology = replace(invited.graph(), peers={i: PeerEntry(key=keyed) for i in range(len(invited.sites))})
    chosen, instead = by_mode(config, topology)
    algorithm = create(chosen.gossip.algorithm, chosen.gossip.parameters, chosen, topology)
    neighbours = ", ".join(f"{invited.sites[j]} (peer {j})" for j in topology.neighbours(invited.peer))
    sentences = (f"{chosen.training.rounds} rounds with {neighbours}",
                 what_neighbours_learn(algorithm, topology, instead))
    findings = recordings(config, topology, invited.peer)
    if all(finding.fits for finding in findings):
        findings += reading(config, topology, invited.peer)
    return Site(folder, config, tuple(findings), sentences)


def accept(invited: Invitation, site: Site, address: str | None, listen: str | None) -> dict[str, Any]:
    """Write the site's key, run file and reply; return the reply. An existing key stays.

    address : where neighbours dial the site; None: that of its previous reply, else this machine's.

    Raises ConfigError where an address is invalid, the folder belongs to another invitation, or it cannot be written.
    """
    key = site.folder / SITE_KEY
    before = _reply_before(invited, site.folder)
    if before is None and (site.folder / invitation.RUN).exists():  # the reply of this invitation is written before it
        raise ConfigError(f"{site.folder} holds the run file of another run, or of the author: choose another folder "
                          "(--out)")
    pair = read_secret_key(key) if key.exists() else make()
    if address is None and before is not None:
        address, listen = before.address, listen or before.listen
    reply = invitation.reply_to(invited, pair, address or _own_address(site.config, invited.peer), listen)
    if not key.exists():
        write_key_pair(key, pair)
    invitation.write(site.folder / invitation.REPLY, reply,
                     f"p2pser: the reply of {invited.site} (peer {invited.peer}) to the invitation to the run "
                     f"{invited.run}.\n"
                     "Next, at its author: p2pser topology assemble FOLDER REPLY...", overwrite=True)
    try:
        put(site.folder / invitation.RUN, invitation.run_file(site.config).encode())
    except OSError as error:
        raise ConfigError(f"cannot write to {site.folder}: {error.strerror}; choose another --out") from None
    return reply


def _reply_before(invited: Invitation, folder: Path) -> Reply | None:
    """Return the site's previous reply to this invitation; None where there is none."""
    path = folder / invitation.REPLY
    before = invitation.read_reply(path) if path.exists() else None
    if before is not None and before.code != invited.code:
        raise ConfigError(f"{folder} belongs to another invitation: choose another folder (--out)")
    return before


def _own_address(config: Config, me: int) -> str:
    """Return the address of this machine's interface that leads to other networks."""
    host = config.network.host
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # chooses the interface, and sends nothing
        host = probe.getsockname()[0]
    return f"tcp://{host}:{config.network.base_port + me}"
