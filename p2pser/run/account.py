"""The peers that took part in a run until its end, and the number that agreed on one model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the launcher imports no torch
    from p2pser.gossip.agreement.consensus import Consensus

INCOMPLETE = 3
"""The exit code of a run that has ended without a peer that the topology declares."""


def account(peers: int, final: Consensus, holders: Iterable[int] = (), living: Iterable[int] = (),
            retired: Collection[int] = ()) -> dict[str, Any]:
    """Return ``peers``, ``took_part``, ``agreed`` (None if each peer keeps its own model), ``peers_dead`` and
    ``peers_apart``: the peers that live, or have finished, but were not reached at the end.

    Parameters
    ----------
    peers : the number of peers that the topology declares.
    final : the final consensus.
    holders : peers that did not take part in it, but have the model, which was handed over.
    living : peers that are not known to be dead.
    retired : peers that have left permanently, and do not count.
    """
    peers, missing = peers - len(retired), [i for i in final.dead if i not in {*holders, *retired}]
    apart = [i for i in missing if i in set(living)]
    took_part = peers - len(missing)
    agreed = took_part if final.converged else 0 if final.sought else None
    return {"peers": peers, "took_part": took_part, "agreed": agreed,
            "peers_dead": [i for i in missing if i not in apart], "peers_apart": apart}


def complete(document: Mapping[str, Any]) -> bool:
    """Whether a run ended with every peer that the topology declares."""
    together = document["took_part"] if document["agreed"] is None else document["agreed"]
    return bool(together == document["peers"])


def in_words(document: Mapping[str, Any]) -> str:
    """Return ``"3 of 6 peers agreed"``, or how many peers took part if each keeps its own model."""
    if document["agreed"] is None:
        return f"{document['took_part']} of {document['peers']} peers took part until the end"
    return f"{document['agreed']} of {document['peers']} peers agreed"
