"""The speakers whose clips no peer trains on, so that the peers calibrate the model on them (``training.held_out``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from p2pser.base import seeding
from p2pser.base.errors import CorpusError
from p2pser.base.wording import counted
from p2pser.corpora.manifest import Clip

Shares = tuple[tuple[int, ...], ...]
"""By peer, the indices of its clips."""


def hold_out(clips: Sequence[Clip], held: Sequence[Sequence[int]], share: float, seed: int, *, own: bool,
             named: bool) -> tuple[Shares, Shares]:
    """Return the clips on which each peer trains, and those that it holds out.

    Of a corpus that is dealt out from one manifest a share of its speakers is drawn, the same at all peers, so a
    speaker whose clips are divided over peers is held out everywhere. Where each peer has recordings of its own it
    draws among its own speakers; a peer with a single speaker, or that does not name them, holds out all or nothing:
    one peer in 1 / share. All draws are keyed by the seed.

    Parameters
    ----------
    clips : of the corpus.
    held : by peer, the indices of its training clips; equal at all peers unless ``own``.
    share : of the speakers, above 0 and at most 1/2; at least one speaker is held out, and one trained on.
    seed : the run's.
    own : whether each peer has recordings of its own.
    named : whether each clip names its speaker.

    Raises CorpusError where a corpus that is dealt out does not name its speakers, or has one only.
    """
    if not own:
        chosen = drawn({clips[index].speaker for mine in held for index in mine}, share, seed)
        if not named or not chosen:
            lacks = "has one only" if named else "does not name the speaker of every clip"
            raise CorpusError(f"training.held_out holds speakers out of training, and the corpus {lacks}: leave it "
                              "out, or take more speakers, with their names")
        away: list[frozenset[str] | None] = [chosen] * len(held)
    else:
        away = [_of_site({clips[index].speaker for index in mine} if named else (), peer, share, seed)
                for peer, mine in enumerate(held)]

    def part(kept: bool) -> Shares:
        return tuple(tuple(index for index in mine if (names is not None and clips[index].speaker not in names) == kept)
                     for mine, names in zip(held, away))

    return part(True), part(False)


def drawn(speakers: Collection[str], share: float, seed: int) -> frozenset[str]:
    """Return a share of these speakers, at least one, and never all; none of a single one."""
    order = sorted(speakers, key=lambda name: (seeding.key(seed, f"held out: {name}"), name))
    return frozenset(order[: min(max(1, round(share * len(order))), len(order) - 1)])


def _of_site(speakers: Collection[str], peer: int, share: float, seed: int) -> frozenset[str] | None:
    """Return the speakers that a peer holds out of its own; None: all, whatever their names."""
    if len(speakers) > 1:
        return drawn(speakers, share, seed)
    every = round(1 / share)
    return None if (peer + seeding.key(seed, "held-out peers")) % every == 0 else frozenset()


def note_of(clips: Sequence[Clip], trained: Shares, away: Shares) -> tuple[str, ...]:
    """Return a note on what is held out, for a reader of the results; none where nothing is."""
    out = {index for share in away for index in share}
    if not out:
        return ()
    speakers = {clips[index].speaker for index in out}
    others = {clips[index].speaker for share in trained for index in share}
    return (f"{len(speakers)} of {len(speakers | others)} training speakers ({counted(len(out), 'clip')}) are held out "
            "of training, to calibrate the model on them (training.held_out)",)
