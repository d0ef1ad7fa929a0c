"""Figures and their intervals: literal values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pser.config.privacy import LimitSettings
from p2pser.privacy.findings import Attack, auc, bootstrapped, found_at, mean_and_interval, recall_of_groups, wilson
from p2pser.privacy.tally import Tally, note


def test_wilson() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(1.0, 24) == pytest.approx((0.8620, 1.0), abs=1e-4)
    assert wilson(0.0, 24) == pytest.approx((0.0, 0.1380), abs=1e-4)


def test_recall_of_groups() -> None:
    value, low, high = recall_of_groups(["f"] * 4 + ["m"] * 2, np.array([1.0, 1.0, 1.0, 0.0, 1.0, 0.0]))
    assert value == 0.625  # (3/4 + 1/2) / 2
    assert low == pytest.approx(0.3223, abs=1e-3)
    assert high == pytest.approx(0.8520, abs=1e-3)


def test_auc_and_the_share_found() -> None:
    members, others = np.array([3.0, 2.0]), np.array([1.0, 2.0, 0.0, 2.5])
    assert auc(members, others) == (4 + 2.5) / 8
    assert auc(others, others) == 0.5
    assert found_at(members, others) == 0.5
    assert found_at(np.array([98.5, 98.0]), np.arange(100.0)) == 0.5  # above 98, which one of a hundred exceeds


def test_bootstrap() -> None:
    value, low, high = mean_and_interval(np.array([0.0, 1.0] * 50))
    assert value == 0.5
    assert (low, high) == pytest.approx((0.40, 0.60), abs=0.015)
    assert all(map(math.isnan, bootstrapped(lambda counts: 1.0, 1)))


def test_a_finding_beyond_its_limit() -> None:
    attack = Attack("sex", "templates", "rows", 1)
    assert attack.finding("UAR", 0.625, 0.5625, 0.7, 0.5, 10, 0.6).verdict == "EXCEEDED"
    assert attack.finding("UAR", 0.625, 0.53125, 0.7, 0.5, 10, 0.6).verdict == "unclear"  # down to .484, if wider
    assert attack.finding("UAR", 0.6, 0.59, 0.7, 0.5, 10, 0.6).verdict == "within"
    assert attack.finding("UAR", 1.0, 0.9, 1.0, 0.5, 10).verdict == ""
    assert attack.finding("other peers", 1, math.nan, math.nan, 0, 10, 0).verdict == "EXCEEDED"
    assert attack.finding("UAR", 1.0, math.nan, math.nan, 0.5, 10).to_dict()["low"] is None


def test_a_tally_of_several_runs() -> None:
    tally = Tally()
    sex, who = Attack("sex", "templates", "rows", 1), Attack("speaker", "templates", "rows", 1)
    for target, group, outcomes in (("a", "f", (True, True)), ("b", "f", (True, False)), ("c", "m", (False, False))):
        for right in outcomes:
            note(tally.groups, sex, target, (group, right))
            note(tally.speakers, who, target, (right, 0.25))
    of_sex, of_speaker = tally.findings(LimitSettings())
    assert (of_sex.value, of_sex.chance, of_sex.targets, of_sex.limit) == (0.375, 0.5, 3, 0.6)
    assert (of_speaker.value, of_speaker.chance, of_speaker.limit) == (0.5, 0.25, 0.5)


def test_shares_are_compared_less_their_mean() -> None:
    tally, attack = Tally(), Attack("labels", "last layer's bias", "rows", 1)
    true = {"a": [0.7, 0.3], "b": [0.5, 0.5], "c": [0.3, 0.7]}
    for target, shares in true.items():
        note(tally.shares, attack, target, (np.array([shares[0] + 0.2, shares[1] - 0.2]), np.array(shares)))
    correlation, main = tally.findings(LimitSettings())
    assert correlation.value == pytest.approx(1.0)  # the same error everywhere hides nothing
    assert (main.value, main.measure) == (2 / 3, "main emotion")
    same = Tally()
    for target, shares in true.items():
        note(same.shares, attack, target, (np.array([0.5, 0.5]), np.array(shares)))
    assert same.findings(LimitSettings())[0].value == 0.0
