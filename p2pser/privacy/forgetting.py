"""Forgetting a speaker: no later start of a peer uses the speaker's clips, and a receipt states what remains.

This does not undo training. Parameters that were trained on the clips stay at this peer until it starts over, at the
other peers, and in every model that was passed on. The receipt has what this peer's parameters tell of the speaker; so
has that of each later call, beside the first one's figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any

from p2pser.base.atomic import PRIVATE, read_json, write_json
from p2pser.base.errors import CorpusError, P2PSERError, nearest
from p2pser.config import Config
from p2pser.corpora.manifest import Clip
from p2pser.corpora.partitioning import partition_corpus
from p2pser.features.cache import content_digest
from p2pser.gossip.mode import by_mode
from p2pser.graph.spec import Topology
from p2pser.peer.clips import withdraw
from p2pser.peer.folder import PeerFolder
from p2pser.privacy.remains import Remains, measure
from p2pser.run import checkpoint

NOT_MEASURED = "how much this peer's parameters tell of the speaker was not measured"
ONE_TEST = "these figures are of one test, by loss: other attacks, on rows that neighbours have seen, may find more"


@dataclass(frozen=True)
class _Found:
    """The clips of a speaker in a peer's recordings.

    clips : by path within the corpus. trained : whether the peer trains on some of them; else they are held out.
    """

    clips: dict[str, Clip]
    trained: bool


def forget(config: Config, topology: Topology, me: int, speaker: str, *, retrain: bool = False) -> dict[str, Any]:
    """Exclude a speaker's clips from every later start of peer ``me``, and return the receipt, which is also on disk.

    Call it again for a forgotten speaker to measure what the present parameters tell.

    Parameters
    ----------
    config, topology : the run's, as ``p2pser peer`` has them.
    me : the peer's id.
    speaker : the name, as in the peer's recordings.
    retrain : remove checkpoints and model, so that the next start begins from the initial parameters.

    Raises CorpusError where the peer has no clip of this speaker and has not forgotten it, ConfigError where the peer
    is running, or its folder holds another run.
    """
    config = by_mode(config, topology)[0]  # with the algorithm that the peer runs
    folder = PeerFolder(config, topology, me)
    again = speaker in folder.forgotten()
    found = _find(config, topology, me, speaker, again=again)
    folder.finished()
    folder.lock(retrain)
    with folder:
        finished, round = folder.finished() is not None, max(checkpoint.available(folder.checkpoints), default=0)
        later = read_json(folder.learned_file, list) or []
        learned = (finished or round > 0) and (speaker in later if again else found.trained)
        # Whatever fails from here on, the speaker is forgotten.
        write_json(folder.forgotten_file, sorted({*folder.forgotten(), speaker}), mode=PRIVATE)
        if learned:
            write_json(folder.learned_file, sorted({*later, speaker}), mode=PRIVATE)
        figures, why_not = _measured(config, topology, me, folder, speaker, found, learned)
        withdraw(folder, {name: content_digest(clip.path) for name, clip in found.clips.items() if clip.path.is_file()})
        before = _first(folder, speaker)
        folder.begin(retrain)
        remains = [*_here(found, finished, round, again=again, learned=learned, retrain=retrain),
                   *_figures(figures, before, why_not)]
        receipt: dict[str, Any] = {
            "receipt": "forget", "run": config.name, "peer": me, "speaker": speaker, "clips": len(found.clips),
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"), "retrain": retrain, "remains": remains,
            "measured": [each.to_dict() for each in figures],
            "before": before and {"time": before[0], "measured": [each.to_dict() for each in before[1]]}}
        folder.receipts.mkdir(mode=0o700, exist_ok=True)
        number = len(list(folder.receipts.iterdir()))
        write_json(folder.receipts / f"forget-{number:04d}.json", receipt, mode=PRIVATE)
    return receipt


def _find(config: Config, topology: Topology, me: int, speaker: str, *, again: bool) -> _Found:
    """Return the speaker's clips. again : the speaker is forgotten already, and may have none.

    Raises CorpusError where the peer has no clip of the speaker.
    """
    try:
        # A speaker whose consent is over is forgotten like any other.
        whole = partition_corpus(config, topology.size, hub=topology.hub, today=date.min)
    except CorpusError:
        if again:
            return _Found({}, False)
        raise
    clips, away = whole.corpus.clips, (whole.held_out[me] if whole.held_out else ())
    mine = [clips[index] for index in (*whole.held[me], *away, *whole.split.test)]
    if not again and speaker not in (speakers := {clip.speaker for clip in mine}):
        raise CorpusError(f"peer {me} has no clip of the speaker {speaker!r}{nearest(speaker, speakers)}")
    return _Found({whole.corpus.relative(clip): clip for clip in mine if clip.speaker == speaker},
                  any(clips[index].speaker == speaker for index in whole.held[me]))


def _measured(config: Config, topology: Topology, me: int, folder: PeerFolder, speaker: str, found: _Found,
              learned: bool) -> tuple[Sequence[Remains], str]:
    """Return what the present parameters tell of the speaker, or why that was not measured."""
    if not found.clips:
        return (), "the speaker's recordings are no longer among this peer's data"
    if not found.trained:
        return (), "these clips are held out of training"
    try:
        return measure(config, topology, me, folder, speaker, learned=learned), ""
    except P2PSERError as error:
        return (), str(error)
    except Exception as error:  # a plug-in's model may raise anything, and a speaker is forgotten all the same
        return (), f"{type(error).__name__}: {error}"


def _first(folder: PeerFolder, speaker: str) -> tuple[str, list[Remains]] | None:
    """Return the time and the figures of the speaker's first receipt that has any."""
    for path in sorted(folder.receipts.glob("forget-*.json")):
        try:
            receipt = read_json(path, dict) or {}
            if receipt.get("speaker") == speaker and receipt.get("measured"):
                return str(receipt["time"]), [Remains.read(each) for each in receipt["measured"]]
        except (P2PSERError, TypeError, KeyError):  # damaged, or of another version
            continue
    return None


def _here(found: _Found, finished: bool, round: int, *, again: bool, learned: bool, retrain: bool) -> list[str]:
    """Return what remains of the speaker at this peer and elsewhere, in sentences."""
    trained, anew = "was trained on these clips", "start all peers with --fresh"
    if found.clips and not found.trained:
        here = "this peer has not trained on these clips, which are held out"
    elif not (finished or round):
        here = f"no checkpoint of this peer {trained}; if it has trained before, its neighbours have rows that it sent"
    elif retrain:
        here = ("this peer's checkpoints and model are removed; if the others resume from theirs, it joins them and "
                f"takes parameters that were trained on these clips: {anew} to train without them")
    elif not learned:
        here = ("this peer has begun its present parameters without these clips; what it has taken from peers that did "
                "not begin anew is in them")
    elif finished:
        here = f"the run has finished, and its model {trained}: forget with --retrain and {anew} to train without them"
    else:
        here = f"the next start resumes at round {round}, whose state {trained}"
    others = ("models that were passed on before were trained on these clips" if again and not learned else
              "the other peers' parameters, and models that were passed on, were trained on these clips")
    recordings = ("the recordings, and their features in the cache, are still there: remove them yourself"
                  if found.clips else "features of the recordings may still be in the cache: remove them yourself")
    return [here, *([others] if found.trained or not found.clips else []), recordings]


def _figures(figures: Sequence[Remains], before: tuple[str, list[Remains]] | None, why_not: str) -> list[str]:
    """Return the figures as sentences, those of the first receipt after them."""
    now = [str(each) for each in figures] or [f"{NOT_MEASURED}: {why_not}"]
    first = [f"before, by the receipt of {before[0]}: {each.in_short()}" for each in before[1]] if before else []
    return [*now, *first, *([ONE_TEST] if figures or first else [])]


def in_words(receipt: dict[str, Any]) -> str:
    """Return a receipt as text."""
    return "\n".join([
        f"peer {receipt['peer']} leaves {receipt['clips']} clips of {receipt['speaker']} out from the next start on",
        "what remains:", *(f"  - {sentence}" for sentence in receipt["remains"])])
