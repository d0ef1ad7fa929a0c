"""Compressed forms of a row: their contraction, refusals and sizes."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from p2pser.base.registries import COMPRESSORS
from p2pser.wire.bits import index_bytes, low_bits, pack, pack_indices, packed_bytes, unpack, unpack_indices
from p2pser.wire.codec import codec, compressor
from p2pser.wire.low_rank import LowRank, matrices
from p2pser.wire.quantised import BLOCK, QSGD, EightBit, Sign
from p2pser.wire.sparse import RandomK, TopK

SHAPES = ((24, 30), (24,), (6, 24), (6,))
SIZE = 24 * 30 + 24 + 6 * 24 + 6
ALL = {
    "top-k": TopK(0.05),
    "top-k of 8 bits": TopK(0.05, bits=8),
    "top-k of 2 bits": TopK(0.05, bits=2),
    "top-k of half": TopK(0.5),
    "random-k": RandomK(0.05).at(1, 2, 3),
    "random-k of 8 bits": RandomK(0.05, bits=8).at(1, 2, 3),
    "sign": Sign(),
    "qsgd": QSGD(7).at(1, 2, 3),
    "qsgd of 1 level": QSGD(1),
    "qsgd of 127 levels": QSGD(127),
    "8-bit": EightBit(),
    "low-rank": LowRank(SHAPES, 1),
    "low-rank of 4": LowRank(SHAPES, 4),
}
each = pytest.mark.parametrize("one", ALL.values(), ids=ALL.keys())
rows = st.integers(0, 700).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float64]),
                           st.sampled_from([0.0, 0.7, 1.0]))
)


def row(size=SIZE, seed=0, dtype=torch.float32, zeros=0.0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=draw, dtype=torch.float64)
    return (x * (torch.rand(size, generator=draw) >= zeros)).to(dtype)


def error(one, x):
    return float((x - one.decode(one.encode(x), len(x))).double().square().sum() / x.double().square().sum())


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_receiver_decodes_by_the_wire_name_alone_what_the_sender_does(one, dtype):
    x = row(dtype=dtype)
    sent = bytes(one.encode(x))
    name = one.wire_name(x)
    assert len(name) <= 16
    found, own = codec(name).decode(sent, len(x)), one.decode(sent, len(x))
    assert torch.equal(found, own)
    assert found.shape == x.shape
    assert torch.equal(x, row(dtype=dtype))
    assert bytes(one.encode(x)) == sent


@each
def test_a_row_of_a_matrix_is_encoded_as_one_of_its_own(one):
    matrix = torch.stack([row(seed=s) for s in range(5)])[:, :].contiguous()
    assert matrix[3].data_ptr() % 64
    assert bytes(one.encode(matrix[3])) == bytes(one.encode(row(seed=3)))


@given(rows, st.sampled_from([one for name, one in ALL.items() if name[:8] != "low-rank"] + [LowRank()]))
def test_any_row_goes_through(made, one):
    size, seed, dtype, zeros = made
    x = row(size, seed, dtype, zeros)
    y = one.decode(one.encode(x), size)
    assert y.shape == x.shape
    assert bool(torch.isfinite(y).all())
    assert float((x - y).double().norm()) <= 1.0001 * float(x.double().norm()) or one.name == "qsgd"
    assert not len(x) or float(y.abs().max()) <= 1.0001 * float(x.double().norm())


@given(st.integers(0, 300), st.binary(max_size=400), st.sampled_from(sorted({*COMPRESSORS} - {"dense"})))
def test_random_bytes_are_a_row_or_the_other_peers_mistake(size, data, name):
    try:
        y = codec(name).decode(data, size)
    except RemoteProtocolError:
        return
    assert y.shape == (size,)


@given(st.data(), st.sampled_from(list(ALL)))
def test_damaged_bytes_are_a_row_or_the_other_peers_mistake(data, name):
    one = ALL[name]
    sent = bytearray(one.encode(row()))
    for _ in range(data.draw(st.integers(1, 3))):
        sent[data.draw(st.integers(0, min(len(sent) - 1, 60)))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 1, 7]))
    try:
        y = one.decode(bytes(sent[: len(sent) - cut]), SIZE)
    except RemoteProtocolError:
        return
    assert y.shape == (SIZE,)


@each
def test_another_length_is_refused(one):
    sent = bytes(one.encode(row()))
    for wrong in (sent[:-1], sent + b"\0", sent[:3], b""):
        if one == ALL["random-k of 8 bits"] and len(wrong) > 3:
            continue  # each byte is a number, and the sender chooses how many
        with pytest.raises(RemoteProtocolError):
            one.decode(wrong, SIZE)
    with pytest.raises(RemoteProtocolError):
        one.decode(sent, -1)
    if not isinstance(one, RandomK):
        with pytest.raises(RemoteProtocolError):
            one.decode(sent, SIZE * 4)


@pytest.mark.parametrize("data", [
    struct.pack("<BI", 4, 2**32 - 1),
    struct.pack("<BI", 1, 2**31),
    struct.pack("<HHII", 1, 1, 2**32 - 1, 2**32 - 1),
    struct.pack("<HHII", 2**16 - 1, 1, 2**16, 2**16),
    struct.pack("<HH", 1, 2**16 - 1),
])
def test_large_claims_allocate_nothing(data):
    tracemalloc.start()
    try:
        for name in ("top-k", "low-rank"):
            with pytest.raises(RemoteProtocolError):
                codec(name).decode(data, 1000)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("name", "sent", "match"), [
    ("top-k", struct.pack("<BI", 3, 0), "3 bytes each"),
    ("top-k", struct.pack("<BI", 4, 6) + bytes(24), "6 of 5"),
    ("top-k", struct.pack("<BI", 4, 3) + b"\xff" + bytes(12), "beyond"),
    ("top-k", struct.pack("<BI", 4, 3) + b"\x18" + bytes(12), "2 indices and declares 3"),
    ("top-k", struct.pack("<BI", 0, 5) + b"\xf8" + bytes(9), "5 numbers of two bits"),
    ("random-k", struct.pack("<BQ", 0, 0) + bytes(24), "0 bytes each"),
    ("random-k", struct.pack("<BQ", 4, 0) + bytes(24), "5 numbers"),
    ("random-k", struct.pack("<BQ", 1, 0) + bytes(3), "5 numbers"),
    ("sign", bytes(2) + b"\x01", "beyond"),
    ("qsgd", b"\x00" + bytes(8), "0 levels"),
    ("qsgd", b"\xff" + bytes(8), "255 levels"),
    ("qsgd", b"\x01" + bytes(4) + pack(np.array([3, 0, 0, 0, 0]), 2), "beyond"),
    ("8-bit", bytes(8), "8-bit"),
    ("low-rank", struct.pack("<HHII", 0, 1, 5, 1) + bytes(20), "rank 0"),
    ("low-rank", struct.pack("<HHII", 1, 1, 6, 1) + bytes(24), "another model"),
])
def test_what_does_not_fit_is_refused(name, sent, match):
    with pytest.raises(RemoteProtocolError, match=match):
        codec(name).decode(sent, 5)


@each
def test_rows_that_have_no_compressed_form_are_our_mistake(one):
    with pytest.raises(LocalProtocolError, match="float16"):
        one.encode(torch.ones(SIZE, dtype=torch.float16))
    with pytest.raises(LocalProtocolError, match=r"\(2, 2\)"):
        one.encode(torch.ones(2, 2))


@pytest.mark.parametrize("make", [
    lambda: TopK(0.0), lambda: TopK(1.5), lambda: RandomK(count=0), lambda: TopK(bits=16), lambda: RandomK(bits=2),
    lambda: QSGD(0), lambda: QSGD(128), lambda: LowRank(rank=0), lambda: compressor("top-q"),
])
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_each_compressor_has_a_name_and_takes_what_it_knows():
    made = {name: compressor(name, {"share": 0.2, "bits": 8, "levels": 3, "rank": 2, "key": 7})
            for name in COMPRESSORS}
    assert made["top-k"] == TopK(0.2, bits=8)
    assert made["random-k"] == RandomK(0.2, bits=8)
    assert made["qsgd"] == QSGD(3)
    assert made["low-rank"] == LowRank(rank=2)
    assert made["low-rank"].shaped([[4, 4]]) == LowRank(((4, 4),), 2)
    assert all(one.name == name for name, one in made.items())


# The promises of each form -----------------------------------------------------------------------------------


@each
def test_the_error_is_what_the_contraction_says(one):
    draws = [error(one.at(0, peer, 0), row(seed=peer)) for peer in range(150)]
    assert np.mean(draws) <= 1 - 0.95 * one.contraction(SIZE)
    assert 0 < one.contraction(SIZE) <= 1


def test_top_k_keeps_the_largest_and_of_equals_the_first():
    x = torch.tensor([1.0, -4.0, 2.0, 2.0, -2.0, 0.5])
    assert TopK(count=3).decode(TopK(count=3).encode(x), 6).tolist() == [0, -4, 2, 2, 0, 0]
    y = row(dtype=torch.float64)
    kept = TopK(count=10).decode(TopK(count=10).encode(y), SIZE)
    assert kept.dtype == torch.float64
    assert set(torch.topk(y.abs(), 10).indices.tolist()) == set(kept.nonzero().flatten().tolist())
    assert torch.equal(kept[kept != 0], y[kept != 0])
    assert torch.equal(TopK(1.0).decode(TopK(1.0).encode(y), SIZE), y)


def test_a_count_may_be_larger_than_the_row_and_a_share_is_at_least_one():
    assert TopK(count=9).kept(5) == 5
    assert TopK(1e-6).kept(5) == 1


def test_random_k_draws_every_number_equally_often_and_by_its_key_only():
    seen = torch.zeros(50)
    for round in range(4000):
        one = RandomK(count=10).at(0, 1, round)
        seen += one.decode(one.encode(torch.ones(50)), 50)
    assert float((seen - 800).abs().max()) < 5 * 800**0.5
    x = row()
    first, second, other = (RandomK(0.1).at(0, 1, 2), RandomK(0.1).at(0, 1, 2), RandomK(0.1).at(0, 1, 3))
    assert first.encode(x) == second.encode(x)
    assert not torch.equal(first.decode(first.encode(x), SIZE) == 0, other.decode(other.encode(x), SIZE) == 0)


@pytest.mark.parametrize("form", [RandomK(0.05), QSGD(3), LowRank(SHAPES, 1)], ids=lambda form: form.name)
def test_draws_differ_between_seeds_peers_and_rounds_and_are_repeated_for_the_same(form):
    x = row(SIZE)
    draws = {(seed, peer, round): bytes(form.at(seed, peer, round).encode(x))
             for seed in (0, 5) for peer in (0, 1, 2) for round in (0, 1)}
    assert len(set(draws.values())) == 12
    assert all(bytes(form.at(*which).encode(x)) == sent for which, sent in draws.items())


def test_random_k_draws_the_same_in_every_version():
    one = RandomK(count=4, key=12345)
    assert one.decode(one.encode(torch.ones(40)), 40).nonzero().flatten().tolist() == [6, 17, 27, 31]


def test_sign_is_the_sign_and_the_mean_magnitude():
    x = torch.tensor([1.0, -3.0, 0.0, 4.0])
    assert Sign().decode(Sign().encode(x), 4).tolist() == [2, -2, 2, 2]
    assert Sign().decode(Sign().encode(torch.ones(66)), 66).tolist() == [1] * 66
    large = torch.cat([torch.full((64,), -1024.0), torch.ones(3)])
    assert torch.equal(Sign().decode(Sign().encode(large), 67), large)


def test_qsgd_is_unbiased_but_for_its_shrinkage():
    x = row(300)
    total = torch.zeros(300)
    for round in range(3000):
        one = QSGD(3).at(0, 0, round)
        total += one.decode(one.encode(x), 300)
    mean = total / 3000 * QSGD(3).shrinkage
    assert float((mean - x).abs().max()) < 5 * float(x.norm()) / 3 / 3000**0.5
    assert QSGD(3).shrinkage == pytest.approx(1 + 16 / 3)


def test_eight_bits_err_by_half_a_step_of_the_blocks_largest():
    x = row(BLOCK * 2) * torch.cat([torch.ones(BLOCK), torch.full((BLOCK,), 1e-6)])
    gap = (x - EightBit().decode(EightBit().encode(x), len(x))).abs()
    for block in (slice(0, BLOCK), slice(BLOCK, None)):
        assert float(gap[block].max()) <= float(x[block].abs().max()) / 253


def test_a_matrix_of_the_rank_comes_whole_and_vectors_always():
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(24, 2, generator=draw) @ torch.randn(2, 30, generator=draw), torch.randn(24, generator=draw),
             torch.randn(6, 2, generator=draw) @ torch.randn(2, 24, generator=draw), torch.randn(6, generator=draw)]
    x = torch.cat([part.flatten() for part in parts])
    y = LowRank(SHAPES, 2).decode(LowRank(SHAPES, 2).encode(x), SIZE)
    assert torch.allclose(x, y, atol=1e-4)
    assert torch.equal(y[720:744], parts[1])


def test_the_rank_is_of_the_largest_singular_values():
    x = row(900)
    one = LowRank(((30, 30),), 3)
    singular = torch.linalg.svdvals(x.view(30, 30)).square()
    assert error(one, x) <= 1.25 * float(singular[3:].sum() / singular.sum())


def test_matrices_are_told_from_what_stays_as_it_is():
    assert matrices([(8, 3, 2, 2), (8,), (1, 7), (7, 1), (), (0, 3), (5, 4)]) == ((8, 12), (23, 1), (5, 4))
    assert matrices([]) == ()
    with pytest.raises(LocalProtocolError, match="does not hold"):
        LowRank(((3, 3),)).encode(torch.ones(8))


def test_bytes_are_as_few_as_they_should_be():
    x = row(100_000)
    sizes = {name: len(one.encode(x)) for name, one in {
        "top-k": TopK(0.01), "top-k of 8 bits": TopK(0.01, bits=8), "random-k": RandomK(0.01), "sign": Sign(),
        "qsgd": QSGD(7), "8-bit": EightBit(), "low-rank": LowRank(((250, 400),), 1)}.items()}
    assert sizes == {"top-k": 5 + 1071 + 4000, "top-k of 8 bits": 5 + 1071 + 4 + 1000, "random-k": 9 + 4000,
                     "sign": 2 * 1563 + 12500, "qsgd": 1 + 4 * 391 + 50000, "8-bit": 4 * 391 + 100_000,
                     "low-rank": 12 + 4 * 650}


# Bits --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 32), st.data())
def test_packed_numbers_come_back(width, data):
    values = np.array(data.draw(st.lists(st.integers(0, 2**width - 1), max_size=40)), dtype=np.int64)
    sent = pack(values, width)
    assert len(sent) == packed_bytes(len(values), width)
    assert unpack(sent, len(values), width).tolist() == values.tolist()


@given(st.integers(1, 400), st.data())
def test_indices_come_back_in_no_more_bytes_than_a_bitmap(size, data):
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, size - 1)))), dtype=np.int64)
    sent = pack_indices(chosen, size)
    assert len(sent) == index_bytes(size, len(chosen)) <= (size + 7) // 8
    assert unpack_indices(sent, size, len(chosen)).tolist() == chosen.tolist()


@given(st.integers(0, 200), st.integers(0, 200), st.binary(max_size=60))
def test_any_bytes_are_ascending_indices_or_refused(size, count, data):
    try:
        found = unpack_indices(data, size, count)
    except RemoteProtocolError:
        return
    assert len(found) == count
    assert (np.diff(found) > 0).all()
    assert not count or (found[0] >= 0 and found[-1] < size)
    assert pack_indices(found, size) == data


@pytest.mark.parametrize(("lows", "unary", "match"), [
    ([5, 3], 0b1100_0000, "not ascending"), ([3, 3], 0b1100_0000, "not ascending"), ([5, 9], 0b0101_0000, "beyond"),
    ([5, 3], 0b1000_0000, "1 indices and declares 2"), ([5, 3], 0b1100_0001, "beyond"),
])
def test_indices_that_are_none_are_refused(lows, unary, match):
    data = pack(np.array(lows), 4) + bytes([unary])
    with pytest.raises(RemoteProtocolError, match=match):
        unpack_indices(data, 40, 2)


def test_low_bits_are_the_logarithm_of_the_gap():
    assert [low_bits(1000, k) for k in (0, 1, 10, 100, 500, 501, 1000)] == [0, 9, 6, 3, 1, 0, 0]


def test_two_bits_keep_at_least_what_the_bound_says_and_all_of_two_levels():
    flat_top = torch.tensor([3.0, -3.0, 1.0, 1.0, -1.0, 0.0])
    two = TopK(count=5, bits=2)
    assert two.decode(two.encode(flat_top), 6).tolist() == flat_top.tolist()
    for count in (1, 2, 50, 1000):
        worst = torch.from_numpy(np.diff(np.sqrt(np.arange(count + 1))))  # the largest square for what a level keeps
        form = TopK(1.0, bits=2)
        kept = 1 - error(form, worst)
        assert form.contraction(count) * (1 - 1e-6) <= kept <= 1 + 1e-6
        assert len(form.encode(worst)) == 5 + index_bytes(count, count) + 8 + packed_bytes(count, 2)
    assert TopK(1.0, bits=2).contraction(1000) == pytest.approx(1 / 2.86, rel=0.05)
