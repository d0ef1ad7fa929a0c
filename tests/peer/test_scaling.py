"""The choice of how features are scaled, at a peer with recordings of its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from p2pser.base.errors import RemoteProtocolError
from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.peer.scaling import ScalingChoice
from p2pser.run.participant import Cohort
from p2pser.run.setup import RollCall, Scales

ME, FEATURES = 2, 3
SHORT, LONG = torch.zeros(0), torch.zeros(1 + 2 * FEATURES)


class Peer:
    """Peer 2 with three clips of one speaker, two of them of one emotion."""

    def __init__(self, normalise: str = "auto", kept: str | None = None) -> None:
        clips = tuple(Clip(Path(f"{k}.wav"), "s", emotion) for k, emotion in enumerate(("joy", "joy", "fear")))
        train = {ME: Examples(np.zeros((3, FEATURES), np.float32), np.array([1, 1, 0]), ("s",) * 3, ("0", "1", "2"))}
        federation = Federation(("fear", "joy"), train, None, Split("none", (), (), (), True), Corpus("own", "", clips),
                                normalise, [], 0, ((), (), (0, 1, 2)))
        self.cohort = Cohort(Config().with_settings(["model.hidden=[2]"]), federation, train, compact=True)
        self.kept: list[str] = []
        self.told: list[str] = []
        folder: Any = SimpleNamespace(keep_scaling=self.kept.append, scaling=lambda: kept)
        reporter: Any = SimpleNamespace(tell=lambda kind, sentence, **_: self.told.append(sentence))
        self.lengths: tuple[int, ...] = ()
        self.choice = ScalingChoice(ME, self.cohort, folder, reporter, self._learned)

    def _learned(self) -> None:
        self.lengths = self.cohort.lengths


def call(normalise: str) -> RollCall:
    return RollCall(0, {}, frozenset(), normalise=normalise)


@pytest.mark.parametrize(("how", "length"), [("global", len(LONG)), ("speaker", 0)])
def test_what_the_roll_call_found_is_kept_and_told(how: str, length: int) -> None:
    peer = Peer()
    assert peer.choice.own == Scales(4, 2)  # 1 - (4 + 1) / 9 is 3.6 eighths
    assert (peer.cohort.lengths, peer.cohort.scaled) == ((len(LONG), 0), False)
    assert peer.choice.called(call(how)).normalise == how
    assert (peer.kept, peer.lengths, peer.cohort.federation.normalise) == ([how], (length,), how)
    assert f"({how}): at most sites a speaker has" in peer.told[0]
    assert peer.choice.called(call("speaker")).normalise == how  # a later roll call changes nothing
    assert (peer.cohort.declared, len(peer.kept)) == ("auto", 1)


def test_what_a_neighbour_says_has_to_fit_its_sums_and_what_is_known() -> None:
    peer = Peer()
    for said, sums in (("", SHORT), ("none", SHORT), ("global", SHORT), ("speaker", LONG)):
        with pytest.raises(RemoteProtocolError):
            peer.choice.heard(call(said), sums)
    assert not peer.cohort.scaled
    peer.choice.heard(call("global"), LONG)
    assert peer.kept == ["global"]
    with pytest.raises(RemoteProtocolError, match="scaled in the way 'speaker'"):
        peer.choice.heard(call("speaker"), SHORT)


def test_a_peer_that_is_started_again_has_the_choice_in_its_folder() -> None:
    peer = Peer(kept="speaker")
    assert (peer.cohort.federation.normalise, peer.cohort.declared, peer.cohort.lengths) == ("speaker", "auto", (0,))


def test_where_settings_say_how_features_are_scaled_nothing_is_sent_or_taken() -> None:
    peer = Peer("global")
    peer.choice.heard(call("speaker"), LONG)
    assert (peer.choice.own, peer.choice.called(call("")).normalise, peer.kept) == (None, "", [])
    assert peer.cohort.lengths == (len(LONG),)
