"""What a card says of how its model was tested: by group, without a speaker's name, and where clips are too few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Corpus, Part
from p2pser.evaluation.metrics import Predictions
from p2pser.evaluation.tested import by_group
from p2pser.features.federation import Examples, Federation
from p2pser.models.facts import Facts

SPEAKERS = 12


def held_out(overlap: int = 0) -> tuple[Federation, Predictions]:
    """12 speakers of 4 clips, the men's half wrong; the last 3 of them another corpus's; a clip without an emotion."""
    speakers = [f"name{i // 4:02d}" for i in range(4 * SPEAKERS)]
    labels = np.array([i % 2 for i in range(4 * SPEAKERS)])
    genders = tuple("fm"[i // 4 % 2] for i in range(4 * SPEAKERS))
    paths = tuple(f"{'one' if i < 36 else 'two'}/{i}.wav" for i in range(4 * SPEAKERS))
    examples = Examples(np.zeros((49, 2), np.float32), np.append(labels, -1), (*speakers, "name00"),
                        (*paths, "one/none.wav"), (*genders, "f"), languages=("de",) * 36 + ("it",) * 12 + ("de",))
    predicted = np.where((np.array(genders) == "m") & (np.arange(48) % 4 < 2), 1 - labels, labels)
    parts = tuple(Part(name, "1", False, "none", Path(name)) for name in ("one", "two"))
    federation = Federation(("a", "b"), {0: examples}, examples, Split("made-up", (), (), (), True),
                            Corpus("one+two", "1", (), parts=parts), "none", [], overlap, ((),))
    return federation, Predictions.of(labels, predicted, speakers, 2, genders=genders, paths=paths)


def test_figures_are_told_by_group_with_intervals_where_speakers_are_enough() -> None:
    found = by_group(*held_out())
    assert found is not None
    assert (found["uar"], found["speakers"], found["clips"]) == (pytest.approx(0.75), 12, 48)
    sexes = found["by"]["sex"]
    assert (sexes["f"]["uar"], sexes["m"]["uar"]) == (1.0, 0.5)
    assert sexes["f"]["interval"] == [1.0, 1.0]
    assert found["by"]["language"].keys() == {"de", "it"}
    assert found["by"]["corpus"]["two"]["clips"] == 12
    assert found["by"]["corpus"]["two"]["interval"] is None
    assert found["lowest_speaker"] == {"uar": 0.5, "clips": 4}
    low, high = found["interval"]
    assert low < 0.75 < high
    assert found["in_words"] == [
        f"tested on one+two, made-up: UAR (b) 0.750 [{low:.3f}, {high:.3f}] (12 speakers, 48 clips)",
        "by sex   f 1.000 [1.000, 1.000] (6 speakers, 24 clips)   m 0.500 [0.500, 0.500] (6 speakers, 24 clips)",
        found["in_words"][2],
        found["in_words"][3],
        "lowest of a speaker   0.500 (4 clips, too few to judge by (fewer than 10))"]
    assert "two 0.667 (3 speakers: too few for an interval (fewer than 5), 12 clips)" in found["in_words"][3]
    assert "name" not in str(found)


def test_speakers_that_were_trained_on_are_told() -> None:
    found = by_group(*held_out(3))
    assert found is not None
    assert found["in_words"][0].endswith("; 3 of these speakers were trained on")


def test_without_held_out_clips_nothing_was_tested() -> None:
    federation, predictions = held_out()
    assert by_group(federation, None) is None
    assert Facts(by_group(federation, None)).to_dict() == {
        "tested": "not tested", "audit": "not audited", "energy": "not measured"}
    facts = Facts(by_group(federation, predictions), {"verdict": "Passed: x."},
                  {"processor_s": 1.5, "joules": None, "method": "not measured"})
    assert Facts.read(facts.to_dict()) == facts
    assert Facts.read({}) == Facts()
    assert list(facts.lines())[-2:] == ["Passed: x.", "energy: 1.5 processor seconds (not measured)"]
    assert list(Facts().lines()) == ["not tested", "not audited", "energy: not measured"]
    for bad in ({"tested": 3}, {"audit": [1]}, {"energy": {}}):
        with pytest.raises(ValueError, match=r"its entry .* is not a mapping|its energy"):
            Facts.read(bad)
