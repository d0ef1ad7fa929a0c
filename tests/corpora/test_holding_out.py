"""Which speakers are held out of training: a share, the same at all peers, and never all."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pser.base.errors import CorpusError
from p2pser.corpora.holding_out import drawn, hold_out, note_of
from p2pser.corpora.manifest import Clip

CLIPS = [Clip(Path(f"{k}.wav"), f"s{k % 10}", "calm") for k in range(40)]
BY_SPEAKER = [tuple(range(s, 40, 10)) for s in range(10)]


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.2, 2), (0.5, 5)])
def test_a_share_of_the_speakers_is_held_out_wherever_their_clips_are(share: float, count: int) -> None:
    divided = [tuple(range(k, 40, 3)) for k in range(3)]
    trained, away = hold_out(CLIPS, divided, share, 7, own=False, named=True)
    assert [sorted((*a, *b)) for a, b in zip(trained, away)] == [list(each) for each in divided]
    out = {CLIPS[i].speaker for each in away for i in each}
    assert len(out) == count
    assert not out & {CLIPS[i].speaker for each in trained for i in each}
    assert out == {CLIPS[i].speaker for each in hold_out(CLIPS, BY_SPEAKER, share, 7, own=False, named=True)[1]
                   for i in each}
    assert note_of(CLIPS, trained, away)[0].startswith(f"{count} of 10 training speakers ({4 * count} clips)")
    assert not note_of(CLIPS, trained, ((),))


def test_a_site_draws_among_its_own_speakers_and_one_peer_in_five_of_one_speaker_holds_out_all() -> None:
    everything = tuple(range(40))
    trained, away = hold_out(CLIPS, [everything] * 2, 0.2, 0, own=True, named=True)
    for own, out in zip(trained, away):
        assert (len(own), len(out)) == (32, 8)
    for named in (True, False):
        mine = [BY_SPEAKER[0] if named else everything] * 10
        trained, away = hold_out(CLIPS, mine, 0.2, 0, own=True, named=named)
        whole = [peer for peer in range(10) if not trained[peer]]
        assert len(whole) == 2
        assert whole[1] - whole[0] == 5
        assert [bool(each) for each in away] == [peer in whole for peer in range(10)]
        assert hold_out(CLIPS, mine[:6], 0.2, 0, own=True, named=named)[0] == trained[:6]  # whatever N is


def test_the_seed_decides() -> None:
    names = {f"s{k}" for k in range(10)}
    assert drawn(names, 0.3, 1) == drawn(sorted(names), 0.3, 1)
    assert len({drawn(names, 0.3, seed) for seed in range(20)}) > 10
    assert drawn({"s"}, 0.5, 0) == frozenset()


@pytest.mark.parametrize("named", [True, False])
def test_a_corpus_without_names_or_with_one_speaker_is_refused(named: bool) -> None:
    clips = CLIPS if not named else [Clip(clip.path, "s", "calm") for clip in CLIPS]
    with pytest.raises(CorpusError, match=r"the corpus (has one only|does not name the speaker of every clip): leave"):
        hold_out(clips, [tuple(range(40))], 0.2, 0, own=False, named=named)
