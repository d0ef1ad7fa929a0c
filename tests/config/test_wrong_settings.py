"""Wrong settings: one sentence of ours, whatever is wrong with whichever setting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from p2pser.base.errors import ConfigError
from p2pser.config import Config, configured, parse
from p2pser.config.constraints import expected
from p2pser.config.problems import settings_of
from p2pser.config.section import Section

FIELDS = dict(settings_of(Config))
WRONG: tuple[Any, ...] = (-1, 0, 10**30, 3.5, float("nan"), float("inf"), True, None, "", "x", "1,x", b"\xff", [], [-1],
                          ["x", None], [[1]], {}, {"a": []}, {1: 2}, {"x": {"y": 1}}, object())
PHRASES = ("should be", "should have", "should match", "should not", "Extra inputs", "Field required", "unable to",
           "Unable to", "Value error", "validation error", "pydantic", "type=", "valid ")
"""Words of the validator's messages."""


def message(tree: Any) -> str | None:
    """What is said about a tree; None where nothing is wrong with it."""
    try:
        parse(tree, "run.yaml")
    except ConfigError as error:
        return str(error)
    return None


def check(text: str) -> None:
    assert text.startswith("run.yaml: ")
    assert "\n" not in text
    for phrase in PHRASES:
        assert phrase not in text, text


def tree_of(path: str, value: Any) -> dict[str, Any]:
    *sections, name = path.split(".")
    tree = {name: value}
    for section in reversed(sections):
        tree = {section: tree}
    return tree


@pytest.mark.parametrize("path", FIELDS)
def test_the_phrases_are_the_validators(path: str) -> None:
    """The list of phrases is not out of date: it covers what the validator itself says of the same values."""
    for value in WRONG:
        try:
            Config.model_validate(tree_of(path, value))
        except ValidationError as error:
            for each in error.errors():
                assert any(phrase in each["msg"] for phrase in PHRASES), each["msg"]


@pytest.mark.parametrize("path", FIELDS)
def test_each_setting_is_refused_in_our_words(path: str) -> None:
    refused = 0
    for value in WRONG:
        text = message(tree_of(path, value))
        if text is not None:
            check(text)
            refused += 1
            assert path in text or text.startswith(f"run.yaml: {path.partition('.')[0]}: "), text
    assert refused >= 8


ANYTHING = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                        lambda inner: st.lists(inner, max_size=3)
                        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3), max_leaves=5)


@given(path=st.sampled_from([*FIELDS, "corpus", "training", "network"]), value=ANYTHING)
def test_anything_else_is_refused_in_our_words(path: str, value: Any) -> None:
    if (text := message(tree_of(path, value))) is not None:
        check(text)


@pytest.mark.parametrize(("tree", "text"), [
    ({"training": {"lr": -1}}, "training.lr = -1: must be a number above 0 and at most 1000"),
    ({"training": {"lr": "fast"}}, "training.lr = 'fast': must be a number above 0 and at most 1000"),
    ({"training": {"lr": float("inf")}}, "training.lr = inf: must be a number above 0 and at most 1000"),
    ({"training": {"rounds": 3.5}}, "training.rounds = 3.5: must be a whole number from 0 to 1000000000"),
    ({"training": {"rounds": True}}, "training.rounds = True: must be a whole number from 0 to 1000000000"),
    ({"training": {"momentum": 1}}, "training.momentum = 1: must be a number of 0 or more and below 1"),
    ({"training": {"task": "sing"}}, "training.task = 'sing': must be classes, dimensions or both"),
    ({"training": {"own_classes": "perhaps"}}, "training.own_classes = 'perhaps': must be true or false"),
    ({"training": 5}, "training = 5: must be a mapping of settings"),
    ({"training": None}, "training = None: must be a mapping of settings"),
    ({"seed": 2**63}, "seed = 9223372036854775808: must be a whole number of 0 or more and below 2^63"),
    ({"name": "../x"}, "name = '../x': must be 1 to 64 letters, digits, dots, dashes and underscores that begin with "
                       "a letter or digit"),
    ({"augment": {"snr": "loud"}}, "augment.snr = 'loud': must be a number from -20 to 100 or none"),
    ({"model": {"hidden": [64, 0]}},
     "model.hidden = [64, 0]: must be a list of whole numbers from 1 to 1000000 (a,b), 64 at most"),
    ({"model": {"hidden": "64,x"}},
     "model.hidden = '64,x': must be a list of whole numbers from 1 to 1000000 (a,b), 64 at most"),
    ({"corpus": {"scale": "1,2,3"}}, "corpus.scale = '1,2,3': must be a list of 2 numbers (a,b) or none"),
    ({"corpus": {"map": [1]}}, "corpus.map = [1]: must be a mapping of names to texts"),
    ({"gossip": {"share": []}}, "gossip.share = []: must be a list of texts (a,b), at least one"),
    ({"gossip": {"parameters": {"beta": [1]}}},
     "gossip.parameters = {'beta': [1]}: must be a mapping of names to numbers, texts or true or false"),
    ({"features": {"revision": 1234567}}, "features.revision = 1234567: must be text or none; quote it in YAML"),
    ({"corpus": {"map": {1: "anger"}}},
     "corpus.map = {1: 'anger'}: must be a mapping of names to texts; quote it in YAML"),
    ({"network": {"secret": 3}}, "network.secret = 3: must be a path or none"),
    ({"features": {"level": 3}},
     "features.level = 3: a level is none, peak, or an RMS level from -100 up to 0 dBFS, such as -26"),
    ({"augment": {"copies": 3}},
     "augment: the copies would equal their recordings: set augment.snr, gain, speed or pitch too"),
    ({"training": {"lrr": 1}}, "there is no setting 'training.lrr'; did you mean 'training.lr'?"),
    ({"training": {3: 4}}, "there is no setting 'training.3'; did you mean 'training.lr'?"),
    ({"trainng": {}}, "there is no setting 'trainng'; did you mean 'training.lr'?"),
])
def test_the_sentences(tree: Any, text: str) -> None:
    assert message(tree) == f"run.yaml: {text}"


def test_what_settings_take_in_words() -> None:
    assert expected(FIELDS["model.width"]) == "a list of numbers above 0 and at most 1 (a,b), at least one"
    assert expected(FIELDS["features.level"]) == "none or peak or a number"
    assert expected(FIELDS["corpus.data"]) == "a path, a list of paths (a,b), a mapping of names to paths or none"
    assert expected(FIELDS["training.soft_labels"]) == "true or false"


class Unlimited(Section):
    """A section whose number has no limits of its own."""

    number: float = 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_without_limits_is_finite(value: float) -> None:
    assert Unlimited(number=1e30).number == 1e30
    with pytest.raises(ValidationError):
        Unlimited(number=value)


def test_a_setting_with_dots_in_a_file_is_answered_with_its_sections() -> None:
    assert message({"training.rounds": 3}) == (
        "run.yaml: settings are written by section here: training: {rounds: …} instead of training.rounds: …")


def test_arrays_and_numbers_of_numpy_are_lists_and_numbers() -> None:
    config = configured({"model.hidden": np.array([3, 4]), "training.lr": np.float64(0.5),
                         "training.rounds": np.int64(2)})
    assert (config.model.hidden, config.training.lr, config.training.rounds) == ((3, 4), 0.5, 2)
