"""Forgetting a speaker: no later start of a peer uses the speaker's clips, and a receipt states what remains.

This does not undo training. Parameters that were trained on the clips stay at this peer until it starts over, at the
other peers, and in every model that was passed on.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from p2pser.base.atomic import PRIVATE, write_json
from p2pser.base.errors import CorpusError, nearest
from p2pser.config import Config
from p2pser.corpora.partitioning import partition_corpus
from p2pser.features.cache import content_digest
from p2pser.gossip.mode import by_mode
from p2pser.graph.spec import Topology
from p2pser.peer.clips import withdraw
from p2pser.peer.folder import PeerFolder
from p2pser.run import checkpoint


def forget(config: Config, topology: Topology, me: int, speaker: str, *, retrain: bool = False) -> dict[str, Any]:
    """Exclude a speaker's clips from every later start of peer ``me``, and return the receipt, which is also on disk.

    Parameters
    ----------
    config, topology : the run's, as ``p2pser peer`` has them.
    me : the peer's id.
    speaker : the name, as in the peer's recordings.
    retrain : remove checkpoints and model, so that the next start begins from the initial parameters.

    Raises CorpusError where the peer has no clip of this speaker, ConfigError where the peer is running, or its folder
    holds another run.
    """
    whole = partition_corpus(config, topology.size, hub=topology.hub)
    clips = [whole.corpus.clips[index] for index in (*whole.held[me], *whole.held_out[me], *whole.split.test)]
    speakers = [clip.speaker for clip in clips]
    if speaker not in speakers:
        raise CorpusError(f"peer {me} has no clip of the speaker {speaker!r}{nearest(speaker, set(speakers))}")
    folder = PeerFolder(by_mode(config, topology)[0], topology, me)  # with the algorithm that the peer runs
    finished, rounds = folder.finished() is not None, checkpoint.available(folder.checkpoints)
    folder.claim(retrain)
    with folder:
        receipt: dict[str, Any] = {
            "receipt": "forget", "run": config.name, "peer": me, "speaker": speaker, "clips": speakers.count(speaker),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "retrain": retrain,
            "remains": _remains(finished, max(rounds, default=0), retrain=retrain)}
        write_json(folder.forgotten_file, sorted({*folder.forgotten(), speaker}), mode=PRIVATE)
        withdraw(folder, {whole.corpus.relative(clip): content_digest(clip.path) for clip in clips
                          if clip.speaker == speaker and clip.path.is_file()})
        folder.receipts.mkdir(mode=0o700, exist_ok=True)
        number = len(list(folder.receipts.iterdir()))
        write_json(folder.receipts / f"forget-{number:04d}.json", receipt, mode=PRIVATE)
    return receipt


def _remains(finished: bool, round: int, *, retrain: bool) -> list[str]:
    """Return what remains of the speaker, in sentences."""
    learned, anew = "was trained on these clips", "start all peers with --fresh"
    if not (finished or round):
        here = f"no checkpoint of this peer {learned}; if it has trained before, its neighbours have rows that it sent"
    elif retrain:
        here = ("this peer's checkpoints and model are removed; if the others resume from theirs, it joins them and "
                f"takes parameters that were trained on these clips: {anew} to train without them")
    elif finished:
        here = f"the run has finished, and its model {learned}: forget with --retrain and {anew} to train without them"
    else:
        here = f"the next start resumes at round {round}, whose state {learned}"
    return [here, "the other peers' parameters, and models that were passed on, were trained on these clips",
            "the recordings, and their features in the cache, are still there: remove them yourself",
            "how much about the speaker can be inferred from the parameters was not measured"]


def in_words(receipt: dict[str, Any]) -> str:
    """Return a receipt as text."""
    return "\n".join([
        f"peer {receipt['peer']} leaves {receipt['clips']} clips of {receipt['speaker']} out from the next start on",
        "what remains:", *(f"  - {sentence}" for sentence in receipt["remains"])])
