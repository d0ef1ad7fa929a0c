"""HELLO: every difference is named with both values; whatever else comes is the other peer's error only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.base.errors import RemoteProtocolError
from p2pser.config import Config
from p2pser.wire.hello import Hello, difference, normalised_settings, parse, run_id
from p2pser.wire.messages import decode_body, encode_body

OURS = Hello(run="r", peer=0, incarnation=0, settings={"training.lr": 0.05, "model.hidden": [128]},
             topology="aaaaaaaaaaaaaaaa", schema="bbbbbbbbbbbbbbbb", initial=(4.0, 0.5, -1.25),
             labels=("anger", "joy"), clips=7)
THEIRS = replace(OURS, peer=3, incarnation=2, clips=9)


@pytest.mark.parametrize(("change", "sentence"), [
    ({"major": 1}, "protocol versions differ: 3.0 at peer 0, 1.0 at peer 3; install the same version of "
                   "p2pser at both"),
    ({"run": "other"}, "run names differ: 'r' at peer 0, 'other' at peer 3"),
    ({"topology": "ffffffffffffffff"}, "topology files of epoch 0 (digests of edges and weights) differ: aaaaaaaaaaaa "
                                       "at peer 0, ffffffffffff at peer 3; give both the same file, and the same "
                                       "version of networkx where it names a kind of graph"),
    ({"settings": {"training.lr": 0.1, "model.hidden": [128]}},
     "settings training.lr differ: 0.05 at peer 0, 0.1 at peer 3"),
    ({"settings": {"training.lr": 0.05}}, "settings model.hidden differ: [128] at peer 0, None at peer 3"),
    ({"settings": {**OURS.settings, "new.field": "x"}}, "settings new.field differ: None at peer 0, 'x' at peer 3"),
    ({"settings": {**OURS.settings, "plugin.algorithm.my-gossip": "my-package 1.3"}},
     "packages of the algorithm my-gossip differ: built in at peer 0, my-package 1.3 at peer 3; install the "
     "same version at all sites"),
    ({"settings": {**OURS.settings, "draws": "0f"}},
     "settings draws differ: None at peer 0, '0f' at peer 3, since their versions of numpy draw other random numbers; "
     "install the same version at all sites"),
    ({"settings": {**OURS.settings, "features.normalise": "speaker"}},
     "settings features.normalise differ: None at peer 0, 'speaker' at peer 3; start all peers with the same "
     "--set features.normalise=HOW, or all without it"),
    ({"labels": ("anger", "fear")}, "label lists differ: anger, joy at peer 0, anger, fear at peer 3"),
    ({"labels": ("joy", "anger")}, "label lists differ: anger, joy at peer 0, joy, anger at peer 3"),
    ({"schema": "ffffffffffffffff"}, "model schemas (digests) differ: bbbbbbbbbbbb at peer 0, ffffffffffff at peer 3"),
    ({"initial": (4.0, 0.5, 1.25)},
     "initial parameters (their outlines) differ: -1.25 at peer 0, 1.25 at peer 3; install the same versions of p2pser"
     ", and of the package of the model, at both"),
    ({"initial": (4.0, 0.5)},
     "initial parameters (their outlines) differ: 3 numbers at peer 0, 2 numbers at peer 3; install the same versions "
     "of p2pser, and of the package of the model, at both"),
    ({"weights": {"0": 0.25}},
     "computed weights of the edge 0-3 differ: 0.0 at peer 0, 0.25 at peer 3; install the same version "
     "of cvxpy at both, or give the weights by hand in the topology file"),
])
def test_a_difference_names_the_field_and_both_values(change: dict[str, Any], sentence: str) -> None:
    assert difference(OURS, replace(THEIRS, **change)) == sentence


def test_versions_of_a_plug_in_are_named_as_they_are() -> None:
    def with_version(hello: Hello, version: str) -> Hello:
        return replace(hello, settings={**hello.settings, "plugin.feature kind.pitch.v2": f"my-package {version}"})

    assert difference(with_version(OURS, "1.2"), with_version(THEIRS, "1.2")) is None
    assert difference(with_version(OURS, "1.2"), with_version(THEIRS, "1.3")) == (
        "packages of the feature kind pitch.v2 differ: my-package 1.2 at peer 0, my-package 1.3 at peer 3; "
        "install the same version at all sites")


def test_what_may_differ_is_no_difference() -> None:
    assert difference(OURS, replace(THEIRS, clips=1000, incarnation=99, minor=7, role="check")) is None


def test_last_bits_of_another_machine_are_no_difference() -> None:
    ours = replace(OURS, weights={"3": 0.25, "1": 0.5})
    theirs = replace(THEIRS, initial=(4.0000003, 0.49999997, -1.2500001), weights={"0": 0.250000001, "2": 0.125})
    assert difference(ours, theirs) is None
    assert difference(theirs, ours) is None
    assert parse(decode_body(encode_body(theirs.body())), 3) == theirs


def test_neighbours_may_differ_in_width_and_a_whole_one_says_nothing_of_it() -> None:
    narrow = replace(THEIRS, width=0.25)
    assert difference(OURS, narrow) is None
    assert "width" not in OURS.body()
    assert parse(decode_body(encode_body(narrow.body())), 3) == narrow
    for wrong in (0.0, 1.5, float("nan"), 1):
        with pytest.raises(RemoteProtocolError):
            parse({**narrow.body(), "width": wrong}, 3)


def test_a_peer_whose_clips_do_not_weigh_says_nothing_of_them() -> None:
    silent = replace(THEIRS, clips=0)
    assert "clips" in THEIRS.body()
    assert "clips" not in silent.body()
    assert parse(decode_body(encode_body(silent.body())), 3) == silent


def test_the_most_basic_difference_comes_first() -> None:
    everything = replace(THEIRS, major=1, run="x", topology="f", settings={}, labels=(), schema="f", initial=())
    assert "protocol" in (difference(OURS, everything) or "")
    assert "run names" in (difference(OURS, replace(everything, major=3)) or "")
    assert "topology" in (difference(OURS, replace(everything, major=3, run="r")) or "")


def test_the_model_to_start_from_is_named_before_the_settings_that_follow_from_it() -> None:
    here = replace(OURS, settings={**OURS.settings, "features.normalise": "global", "model to start from": "ac19"})
    there = replace(THEIRS, settings={**OURS.settings, "features.normalise": "auto"})
    assert (difference(here, there) or "").startswith("settings model to start from differ: 'ac19' at peer 0, None at ")


def test_a_long_value_is_cut_and_a_hostile_one_cannot_write_on_the_terminal() -> None:
    long = difference(OURS, replace(THEIRS, settings={**OURS.settings, "training.lr": "z" * 5000}))
    assert long is not None
    assert len(long) < 250
    hostile = "\x1b[2J\x07\n"
    for change in ({"labels": (hostile * 10000,)}, {"topology": hostile}, {"schema": hostile},
                   {"weights": {hostile: 1.0, "0": 1.0}}, {"run": hostile},
                   {"settings": {**OURS.settings, hostile: 1}}):
        sentence = difference(OURS, replace(THEIRS, **change))  # type: ignore[arg-type]
        assert sentence is not None
        assert sentence.isprintable(), sentence
        assert len(sentence) <= 1000


def test_a_hello_survives_the_wire() -> None:
    ours = replace(OURS, settings=normalised_settings(Config().shared()))
    theirs = parse(decode_body(encode_body(ours.body())), 0)
    assert theirs == ours
    assert difference(ours, theirs) is None


def test_labels_that_are_not_known_yet_fit_all_and_a_fixed_list_names_the_remedy() -> None:
    agreed = replace(THEIRS, labels=())
    assert difference(OURS, agreed) is None
    assert difference(agreed, OURS) is None
    fixed = replace(THEIRS, settings={**THEIRS.settings, "corpus.labels": ["anger"]})
    sentence = difference(OURS, fixed)
    assert sentence is not None
    assert "settings corpus.labels differ: None at peer 0, ['anger'] at peer 3" in sentence
    assert "--set corpus.map=WORD=EMOTION" in sentence


@pytest.mark.parametrize(("field", "value", "word"), [
    ("peer", 4, "names peer 4 as its sender"), ("clips", -1, "out of range"), ("incarnation", -1, "out of range"),
    ("role", "king", "out of range"), ("width", 0.0, "out of range"), ("width", 1.5, "out of range"),
    ("process", "x" * 33, "out of range"),
    ("initial", [1.0] * 65, "too many"), ("initial", [float("nan")], "not finite"), ("initial", ["1"], "not finite"),
    ("weights", {"3": float("inf")}, "not finite"), ("weights", {"3": "x"}, "not finite"),
    ("labels", ["a", 1], "labels that are not text"), ("labels", ["a", "a"], "canonical form"),
    ("clips", True, "type bool"),
    ("settings", [], "type list"), ("run", None, "type NoneType"), ("major", 1.0, "type float"),
])
def test_a_wrong_field_is_named(field: str, value: Any, word: str) -> None:
    with pytest.raises(RemoteProtocolError, match=word) as caught:
        parse({**THEIRS.body(), field: value}, 3)
    assert caught.value.peer == 3


def test_missing_and_unknown_fields_are_named() -> None:
    body = THEIRS.body()
    del body["role"]
    with pytest.raises(RemoteProtocolError, match="extra, role") as caught:
        parse({**body, "extra": 1}, 3)
    assert caught.value.peer == 3
    with pytest.raises(RemoteProtocolError) as hostile:
        parse({**THEIRS.body(), "\x1b[2J" * 10000: 1}, 3)
    assert str(hostile.value).isprintable()
    assert len(str(hostile.value)) <= 1000


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(THEIRS.body())) | st.text(), VALUES), st.booleans())
def test_whatever_comes_is_a_hello_or_the_other_peers_error(body: dict[str, Any], complete: bool) -> None:
    try:
        hello = parse({**(THEIRS.body() if complete else {}), **body}, 3)
    except RemoteProtocolError:
        return
    assert hello.peer == 3
    sentence = difference(OURS, hello)
    assert sentence is None or sentence.isprintable()


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_runs_are_told_apart_by_eight_bytes(one: str, other: str) -> None:
    assert len(run_id(one)) == 8
    assert (run_id(one) == run_id(other)) == (one == other)
