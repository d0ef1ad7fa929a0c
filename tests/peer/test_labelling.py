"""Emotions of a peer's clips that a run under way lacks."""

from __future__ import annotations

import pytest

from p2pser.base.errors import CorpusError
from p2pser.network import events
from p2pser.peer.check import with_emotions
from p2pser.peer.labelling import require_own
from p2pser.wire.hello import Hello
from p2pser.wire.messages import Phase, Progress


def up(*labels: str) -> events.Up:
    hello = Hello("run", 4, 0, {}, "t" * 16, "5" * 16, (1.0,), labels)
    return events.Up(4, hello, Progress(0, 0, Phase.TRAIN, 0))


def test_a_new_emotion_is_named_with_the_remedy() -> None:
    require_own(["fear"], ("anger", "fear"), 2)
    require_own([], ("anger", "fear"), 2)
    with pytest.raises(CorpusError, match=r"peer 2 has clips of awe, joy.* \(--set corpus\.map=awe=anger"):
        require_own(["joy", "fear", "awe"], ("fear", "anger"), 2)


def test_a_check_tells_of_a_new_emotion() -> None:
    for fits in (up(), up("anger", "fear")):
        assert with_emotions(fits, ["fear"], 2) is fits
    answer = with_emotions(up("anger", "joy"), ["fear"], 2)
    assert isinstance(answer, events.Refused)
    assert (answer.peer, answer.by_us) == (4, True)
    assert "peer 2 has clips of fear" in answer.reason
    refused = events.Refused(4, "run names differ", by_us=False)
    assert with_emotions(refused, ["fear"], 2) is refused
