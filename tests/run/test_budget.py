"""Whether the units of a budget fit the clips of a federation, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pser.base.errors import ConfigError
from p2pser.config import Config
from p2pser.corpora.folds import Split
from p2pser.corpora.manifest import Clip, Corpus
from p2pser.features.federation import Examples, Federation
from p2pser.run.budget import check_units, in_words

HELD = (("ann", "bob"), ("cy",), ("dee", "dee", "eve"))
"""The speaker of each clip of each of three peers."""


def federation(held: tuple[tuple[str, ...], ...] = HELD, normalise: str = "none") -> Federation:
    names = [name for own in held for name in own]
    clips = tuple(Clip(Path(f"{k}.wav"), speaker, "joy") for k, speaker in enumerate(names))
    train, places, first = {}, [], 0
    for peer, own in enumerate(held):
        size = len(own)
        train[peer] = Examples(np.zeros((size, 2), np.float32), np.zeros(size, np.int64), own, ("",) * size)
        places.append(tuple(range(first, first + size)))
        first += size
    return Federation(("joy",), train, None, Split("none", (), (), (), False), Corpus("test", "1", clips), normalise,
                      [], 0, tuple(places))


def check(*settings: str, held: tuple[tuple[str, ...], ...] = HELD, normalise: str = "none") -> tuple[str, ...]:
    made = federation(held, normalise)
    return check_units(Config().with_settings(["privacy.epsilon=3", *settings]), made, made.train)


def test_units_that_fit_are_taken() -> None:
    assert check("privacy.unit=site") == ()
    assert check("privacy.unit=speaker", "privacy.units=5", normalise="speaker") == ()
    assert check("privacy.unit=clip", "privacy.units=9", normalise="public")
    made = federation(normalise="global")
    assert check_units(Config(), made, made.train) == ()


def test_an_epsilon_that_says_nothing_is_told() -> None:
    (sentence,) = check("privacy.unit=clip", "privacy.units=6", held=(("ann", "bob"), ("cy",), ("dee", "dee", "dee")))
    assert sentence.startswith("epsilon does not protect the speakers of peers 1, 2: each has one speaker, whose up "
                               "to 3 clips together may lose 3 times epsilon")
    (sentence,) = check("privacy.epsilon=12", "privacy.unit=site")
    assert "protects almost nothing" in sentence


@pytest.mark.parametrize(("settings", "how", "words"), [
    (["privacy.unit=site"], {"normalise": "global"}, "set features.normalise=public, speaker or none"),
    (["privacy.unit=site", "augment.unenrolled=true"], {"normalise": "speaker"}, "leave it out"),
    (["privacy.unit=clip", "privacy.units=9"], {"normalise": "speaker"}, "mixes each clip into all others"),
    (["privacy.unit=speaker", "privacy.units=4"], {}, "the 3 peers have 5 speakers, more than privacy.units=4"),
    (["privacy.unit=clip", "privacy.units=5"], {}, "the 3 peers have 6 clips, more than privacy.units=5"),
    (["privacy.unit=speaker", "privacy.units=9"], {"held": (("ann", ""), ("cy",), ("eve",))}, "set privacy.unit=site"),
    (["privacy.unit=speaker", "privacy.units=9"], {"held": (("ann",), ("unknown",), ("eve",))}, "does not name the"),
    (["privacy.unit=speaker", "privacy.units=9"], {"held": (("ann", "bob"), ("bob",), ("eve",))},
     r"of 1 speakers \(bob\) are divided over several"),
])
def test_clips_that_the_units_do_not_keep_apart_are_refused(settings: list[str], how: dict[str, object], words: str
                                                            ) -> None:
    with pytest.raises(ConfigError, match=words):
        check(*settings, **how)  # type: ignore[arg-type]


def test_a_sentence_tells_unit_delta_and_both_epsilons() -> None:
    report = {"unit": "speaker", "units": 24, "delta": 1 / 576, "rounds": 7, "epsilon_neighbour": 7.996,
              "epsilon_model": None, "colluding": 11}
    assert in_words(report) == ("each speaker (of 24), at delta 1.7e-03, after 7 rounds: epsilon 8.00 for neighbours "
                                "(up to 11 together), no bound for others who have the model")
    assert in_words({**report, "simulated": True}).endswith("the noise follows from the seed")
