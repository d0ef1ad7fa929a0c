"""Masks and fixed point: sums are exact, and what is short of a whole sum shows nothing."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pser.base.errors import LocalProtocolError
from p2pser.gossip.agreement.masks import COMPLETE, FixedPoint, keystream, mask, partners
from p2pser.network import keys
from p2pser.simulation.secrets import SeedSecrets

U4, U8 = np.dtype("<u4"), np.dtype("<u8")
VIEW = bytes(range(16))


@given(roster=st.sets(st.integers(0, 200), min_size=3, max_size=40), seed=st.integers(0, 99), dtype=st.sampled_from(
    [U4, U8]))
@settings(max_examples=25, deadline=None)
def test_masks_cancel_over_the_roster(roster, seed, dtype):
    ids = sorted(roster)
    masks = [mask(SeedSecrets(seed), i, ids, VIEW, 5, dtype) for i in ids]
    assert all(one.any() for one in masks)
    assert not sum(masks[1:], masks[0]).any()


@given(size=st.integers(COMPLETE + 1, 300), start=st.integers(0, 50), view=st.binary(min_size=16, max_size=16))
@settings(max_examples=25, deadline=None)
def test_pairs_of_a_large_roster_are_few_symmetric_and_connected(size, start, view):
    roster = list(range(start, start + size))
    graph = nx.Graph([(i, j) for i in roster for j in partners(i, roster, view)])
    degree = 2 * math.ceil(math.log2(size)) + 8
    assert set(dict(graph.degree).values()) == {min(degree, size - 1)}
    assert nx.is_connected(graph)
    assert sorted(graph) == roster


def test_pairs_of_a_large_roster_differ_from_sum_to_sum():
    roster = list(range(64))
    assert partners(5, roster, VIEW) != partners(5, roster, VIEW[::-1])
    assert len(partners(5, roster, VIEW)) == 20
    assert partners(5, list(range(COMPLETE)), VIEW) == [i for i in range(COMPLETE) if i != 5]


def test_masks_of_two_sums_or_two_runs_differ():
    roster = [0, 1, 2]
    one = mask(SeedSecrets(0), 1, roster, VIEW, 4, U4)
    assert (one != mask(SeedSecrets(0), 1, roster, VIEW[::-1], 4, U4)).all()
    assert (one != mask(SeedSecrets(1), 1, roster, VIEW, 4, U4)).all()


def test_one_message_and_every_part_of_a_sum_is_uniform_whatever_the_inputs_are():
    """256 bins of 65,536 numbers each: chi-square with 255 degrees of freedom, 99.99 % of it below 350."""
    size, roster, secrets = 1 << 16, [0, 1, 2, 3], SeedSecrets(3)
    inputs = {i: np.full(size, 7 * i, dtype=U4) for i in roster}
    masked = {i: inputs[i] + mask(secrets, i, roster, VIEW, size, U4) for i in roster}
    for part in ([0], [1], [3], [0, 1], [1, 2], [0, 1, 2], [1, 2, 3]):
        total = sum((masked[i] for i in part[1:]), masked[part[0]])
        for shift in (0, 8, 16, 24):
            counts = np.bincount((total >> shift) & 255, minlength=256)
            assert ((counts - size / 256) ** 2 / (size / 256)).sum() < 350
    assert (sum((masked[i] for i in roster[1:]), masked[0]) == 42).all()


def test_a_message_is_the_same_for_two_inputs_under_two_masks():
    """For every input there is a mask that gives the same message: it alone says nothing."""
    own, other = np.array([1, 5], dtype=U4), np.array([1, 2**31], dtype=U4)
    sent = own + mask(SeedSecrets(0), 0, [0, 1, 2], VIEW, 2, U4)
    assert (other + (sent - other) == sent).all()


def test_a_keystream_is_that_of_chacha20_under_hkdf():
    assert keystream(bytes(32), bytes(16), 3, U4).tolist() == keystream(bytes(32), bytes(16), 5, U4)[:3].tolist()
    assert keystream(bytes(32), bytes(16), 2, U8).view(U4).tolist() == keystream(bytes(32), bytes(16), 4, U4).tolist()


@given(values=st.lists(st.floats(-32, 32), min_size=1, max_size=20), peers=st.integers(3, 1000),
       bits=st.sampled_from([32, 64]))
@settings(max_examples=60, deadline=None)
def test_a_number_comes_back_to_within_half_a_step(values, peers, bits):
    numbers = FixedPoint(bits, 32.0, peers)
    row = np.array(values)
    whole, clipped = numbers.encode(row)
    assert clipped == 0
    assert np.abs(numbers.decode(whole) - row).max() <= 0.5 / numbers.scale


@given(peers=st.integers(3, 500), heaviest=st.integers(1, 2000), bits=st.sampled_from([32, 64]),
       sign=st.sampled_from([-1, 1]))
@settings(max_examples=60, deadline=None)
def test_the_largest_sum_does_not_overflow(peers, heaviest, bits, sign):
    numbers = FixedPoint(bits, 32.0, peers, heaviest)
    whole, _ = numbers.encode(np.array([sign * 32.0]), heaviest)
    total = (whole.astype(object) * peers % 2**bits).astype(numbers.dtype)
    assert numbers.decode(total, peers * heaviest).tolist() == [sign * 32.0]


def test_weighted_sums_are_weighted_means():
    numbers = FixedPoint(32, 4.0, 3, heaviest=10)
    rows, weights = np.array([[1.0, -2.0], [3.5, 0.25], [-4.0, 1.0]]), [1, 10, 5]
    total = sum((numbers.encode(row, weight)[0] for row, weight in zip(rows[1:], weights[1:])),
                numbers.encode(rows[0], 1)[0])
    assert np.abs(numbers.decode(total, 16) - weights @ rows / 16).max() < 1e-6


def test_larger_numbers_are_clipped_and_counted():
    numbers = FixedPoint(32, 2.0, 3)
    whole, clipped = numbers.encode(np.array([3.0, -9.0, 1.0]))
    assert clipped == 2
    assert numbers.decode(whole).tolist() == [2.0, -2.0, 1.0]


def test_numbers_that_fit_no_integers_are_told():
    assert FixedPoint(32, 32.0, 20, 1000).fits
    assert not FixedPoint(32, 32.0, 10_000, 1000).fits
    assert FixedPoint(64, 32.0, 10_000, 1000).fits
    for row, weight in (([math.nan], 1), ([math.inf], 1), ([1.0], -1), ([1.0], 2)):
        with pytest.raises(LocalProtocolError):
            FixedPoint(32, 32.0, 20).encode(np.array(row), weight)


def test_two_key_pairs_share_a_secret_that_no_third_pair_and_no_other_run_has():
    one, other, third = (keys.KeyPair.of(bytes([k]) * 32) for k in (1, 2, 3))
    secret = keys.shared_secret(one, other.public, "run")
    assert len(secret) == 32
    assert keys.shared_secret(other, one.public, "run") == secret
    assert keys.shared_secret(other, one.public, "run2") != secret
    assert keys.shared_secret(third, one.public, "run") != secret
    assert keys.shared_secret(third, other.public, "run") != secret
