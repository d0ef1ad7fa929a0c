"""The audit of peers that send each neighbour another fragment of their row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from p2pser.config import Config
from p2pser.features.federation import Federation
from p2pser.gossip.both_ends import Head, Marks
from p2pser.gossip.mixer import Step
from p2pser.graph.spec import load
from p2pser.privacy.attacks.inversion import candidates, likeness
from p2pser.privacy.attacks.membership import row_space_scores
from p2pser.privacy.audit import Audit, audit
from p2pser.privacy.findings import Finding
from p2pser.privacy.wire import Wire
from p2pser.wire.codec import DENSE, Received

Make = Callable[..., tuple[Config, Federation]]


def of(found: Audit, about: str, attack: str, measure: str) -> Finding:
    """The one finding after round 1 that these words name."""
    (one,) = (each for each in found.findings
              if (each.about, each.attack, each.measure, each.rounds) == (about, attack, measure, 1))
    return one


def test_fragments_for_two_neighbours_hide_little(made_up: Make) -> None:
    config, federation = made_up(normalise="none", **{"gossip.algorithm": "mosaic"})
    found = audit(config, load("ring", 12, 0), federation, rounds=(1,))
    assert {each.seen: each.value for each in found.findings if each.measure == "other peers"} == {
        "statistics": 0, "round 1": 2, "final consensus": 11}
    assert of(found, "membership", "row space", "AUC").value > 0.99
    assert of(found, "sex", "templates", "UAR").targets == 12
    assert of(found, "features", "inversion", "cosine").targets == 12


def test_fragments_for_many_neighbours_hide_labels_and_no_recording(made_up: Make) -> None:
    config, federation = made_up(normalise="none", **{"gossip.algorithm": "mosaic"})
    found = audit(config, load("complete", 12, 0), federation, rounds=(1,))  # eleven fragments
    assert of(found, "membership", "row space", "AUC").value > 0.99
    assert of(found, "labels", "last layer's bias", "correlation").value < 0.6  # of whole rows above .8


def test_the_last_round_is_followed_by_messages_that_are_no_fragments(made_up: Make) -> None:
    config, federation = made_up(peers=6, normalise="none", **{"gossip.algorithm": "mosaic"})
    found = audit(config, load("ring", 6, 0), federation, rounds=(config.training.rounds,))
    assert [each.targets for each in found.findings if (each.about, each.attack, each.measure) ==
            ("membership", "row space", "AUC")] == [6]


# ---- what observers know ------------------------------------------------------------------------------------

ROWS = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [9.0, 8.0, 7.0, 6.0, 5.0]])


@pytest.fixture
def wire() -> Wire:
    """A wire on which peer 0 sent peers 1 and 4 every third number of its row, and peer 1 every third of another."""
    first = {(1, 0): 0, (4, 0): 2, (0, 1): 0}
    wire = Wire(load("ring", 5, 0), torch.ones(5), frozenset({0, 1}), slots=2,
                fragment=lambda edge, t: slice((first[edge] + t) % 3, None, 3))
    for round in (0, 1):
        t = 2 * round
        for dst, src in first:
            head = Head(Marks(t - 1, t - 1, max(t - 2, -1)), t - 1).encode(t)
            wire.received(Step(round, 0), (dst, src), Received(src, head + bytes(DENSE.encode(
                (ROWS[src] + 10 * round)[wire.fragment((dst, src), t)].clone()))))
    return wire


def test_a_view_holds_the_fragment_that_its_observer_received(wire: Wire) -> None:
    view = wire.view(0, (1,), 0)
    assert view is not None
    assert (view.own, view.start.tolist()) == (True, [1.0] * 5)
    assert view.seen.tolist() == [True, False, False, True, False]
    assert view.update.tolist() == [0.0, 0.0, 0.0, 3.0, 0.0]
    assert wire.direct((1,), 0) == 1
    assert wire.direct((2,), 0) == 0
    assert not wire.unreadable


def test_colluding_observers_put_fragments_together_and_begin_at_their_own_mean(wire: Wire) -> None:
    wire.held(1, torch.arange(25.0).view(5, 5))  # peer 1: 5 .. 9, peer 4: 20 .. 24
    view = wire.view(0, (1, 4), 1)
    assert view is not None
    assert view.start.tolist() == [12.5, 13.5, 14.5, 15.5, 16.5]
    assert view.seen.tolist() == [False, True, True, False, True]
    assert view.update.tolist() == [0.0, 12.0 - 13.5, 13.0 - 14.5, 0.0, 15.0 - 16.5]


def test_a_peer_that_rejoins_is_sent_the_start_of_a_fragment(wire: Wire) -> None:
    wire.rejoins = True
    wire.held(1, torch.arange(25.0).view(5, 5))
    view = wire.view(0, (1,), 1)
    assert view is not None
    assert view.start.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_peer_whose_fragments_went_elsewhere_is_not_known(wire: Wire) -> None:
    assert wire.view(3, (1,), 0) is None


# ---- attacks on a part of an update --------------------------------------------------------------------------

def test_row_spaces_are_those_of_units_of_which_the_same_weights_are_known() -> None:
    draw = np.random.default_rng(5)
    clips = draw.normal(size=(3, 8)).astype(np.float32)
    inputs = np.concatenate([clips, np.ones((3, 1))], axis=1)
    matrix = draw.normal(size=(10, 3)) @ inputs
    seen = np.zeros((10, 9), dtype=bool)
    seen[:6, 1::2] = True
    seen[6:, ::2] = True
    others = draw.normal(size=(2, 8)).astype(np.float32)
    scores = row_space_scores(np.where(seen, matrix, 0.0), seen, 5, np.concatenate([clips, others]))
    assert scores[:3] == pytest.approx([1.0] * 3)
    assert max(scores[3:]) < 0.99
    whole = row_space_scores(matrix, np.ones_like(seen), 5, clips)
    assert whole == pytest.approx([1.0] * 3)


def test_units_of_which_nothing_is_known_do_not_count() -> None:
    seen = np.array([[False, False, False], [True, True, True]])
    matrix = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 3.0]])
    features = np.array([[1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    assert row_space_scores(matrix, seen, 2, features) == pytest.approx([1.0, 0.1**0.5])  # [0 2 1] . [1 0 1] / sqrt(10)
    seen[1] = [False, True, False]
    assert row_space_scores(np.where(seen, 1.0, 0.0), seen, 2, features).tolist() == [0.0, 1.0]  # of [0] and [2]


def test_features_are_compared_where_they_are_known() -> None:
    clips = np.array([[1.0, -2.0, 0.5], [3.0, 1.0, 0.0]])
    seen = np.array([[True, True, False, True], [False, True, True, True], [True, True, True, False]])
    matrix = np.where(seen, np.array([[0.2], [-0.5], [1.0]]) * np.append(clips[0], 1.0), 0.0)
    inputs, known = candidates(matrix, seen)  # the third unit's bias is not known
    assert inputs == pytest.approx(np.array([[1.0, -2.0, 0.0], [0.0, -2.0, 0.5]]))
    assert known.tolist() == [[True, True, False], [False, True, True]]
    features = clips.astype(np.float32)
    # (3, 1) is most like (1, -2) by 1 / sqrt(50), and (1, 0) like (-2, .5) by -2 / sqrt(4.25).
    assert likeness(inputs, known, features) == pytest.approx([1.0, 50**-0.5], abs=1e-6)
