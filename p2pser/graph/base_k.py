"""The Base-(k+1) graph: exact consensus of any number of peers in few exchanges, with at most k neighbours each.

Takezawa, Sato, Bao, Niwa and Yamada 2023, "Beyond exponential graph: communication-efficient topologies for
decentralized learning via finite-time convergence". Three constructions, each based on the previous:

- The *k-peer hyper-hypercube* for n whose prime factors are at most k+1: n = n_1 n_2 … n_L with all n_l <= k+1;
  exchange l averages groups of n_l peers whose ids differ in digit l of that mixed radix alone.
- The *Simple Base-(k+1)* graph for any n, by the digits of n in base k+1, n = sum_l a_l (k+1)^(p_l), p_1 > p_2 > …:
  part l has a_l blocks of (k+1)^(p_l) peers. First each block averages. Then, part after part, each peer of all later
  parts averages with a peer of each block of part l, weighted so that part l and the later parts have the overall mean;
  part l then averages while the next part does the same. The last part only averages over its blocks.
- The *Base-(k+1)* graph: n = p q with p the largest factor for which a hyper-hypercube exists; p Simple Base-(k+1)
  graphs of q peers in parallel, then hyper-hypercubes of p across; or the Simple graph where that is shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Exchange = NDArray[np.float64]
"""The links of an exchange (m, 3): two peers and the weight that each gives to the other peer."""
Peers = NDArray[np.int64]

_NONE: Exchange = np.zeros((0, 3))


@lru_cache(maxsize=8)
def exchanges(n: int, k: int) -> tuple[Exchange, ...]:
    """Return the links of each exchange of the Base-(k+1) graph on 0 .. n-1; the last one reaches consensus.

    ``n`` > ``k`` >= 1. Each peer has at most k links in an exchange; at most 2 log_{k+1}(n) + 2 exchanges.
    """
    simple = _simple(np.arange(n), k)
    p = _smooth_part(n, k)
    q = n // p
    if p == 1 or q == 1:
        return tuple(simple)
    columns = [_repeated(links, [(1, block * q) for block in range(p)]) for links in _simple(np.arange(q), k)]
    across = [_repeated(links, [(q, place) for place in range(q)]) for links in _hyper_hypercube(np.arange(p), k)]
    composed = columns + across
    return tuple(composed if len(composed) <= len(simple) else simple)


def _repeated(links: Exchange, places: Sequence[tuple[int, int]]) -> Exchange:
    """Return the links among the peers ``stride * i + first`` for each (stride, first)."""
    by = np.array(places, dtype=np.float64).reshape(-1, 2)
    peers = links[None, :, :2] * by[:, :1, None] + by[:, 1:, None]
    weights = np.broadcast_to(links[None, :, 2:], (len(by), len(links), 1))
    return np.concatenate([peers, weights], axis=2).reshape(-1, 3)


@lru_cache(maxsize=4096)
def factors(n: int, most: int) -> tuple[int, ...] | None:
    """Return the fewest factors of n, each from 2 to ``most``, ascending; None where a prime factor is larger."""
    if n == 1:
        return ()
    best: tuple[int, ...] | None = None
    for divisor in range(min(most, n), 1, -1):
        if n % divisor == 0:
            rest = factors(n // divisor, most)
            if rest is not None and (best is None or len(rest) + 1 < len(best)):
                best = tuple(sorted((divisor, *rest)))
    return best


def _smooth_part(n: int, k: int) -> int:
    part, rest = 1, n
    for divisor in range(2, k + 2):
        while rest % divisor == 0:
            part, rest = part * divisor, rest // divisor
    return part


def _together(parts: Sequence[Sequence[Exchange]]) -> list[Exchange]:
    """Merge lists of exchanges on disjoint peers; peers of a shorter list are idle at the end."""
    length = max(len(part) for part in parts)
    return [np.concatenate([_NONE, *(part[t] for part in parts if t < len(part))]) for t in range(length)]


def _averaged(groups: Peers) -> Exchange:
    """Return the links among the peers of each group (G, n), with the weight 1/n."""
    size = groups.shape[1]
    first, second = np.triu_indices(size, 1)
    u, v = groups[:, first].ravel(), groups[:, second].ravel()
    return np.stack([u, v, np.full(len(u), 1 / size)], axis=1)


def _hyper_hypercube(peers: Peers, k: int) -> list[Exchange]:
    radix = factors(len(peers), k + 1) or ()
    result: list[Exchange] = []
    stride, places = 1, np.arange(len(peers))
    for base in radix:
        starts = places[places // stride % base == 0]
        result.append(_averaged(peers[starts[:, None] + np.arange(base) * stride]))
        stride *= base
    return result


def _simple(peers: Peers, k: int) -> list[Exchange]:
    n = len(peers)
    if factors(n, k + 1) is not None:
        return _hyper_hypercube(peers, k)
    parts = _digits(peers, k + 1)  # part l: its blocks, each a power of k+1
    power = len(_hyper_hypercube(parts[0][0], k))  # p_1: the exchanges of the largest blocks
    lines: list[list[Exchange]] = []
    for place, blocks in enumerate(parts):
        inside = _together([_hyper_hypercube(block, k) for block in blocks])
        # From exchange p_1 on, the later parts average with each earlier part in turn.
        line: list[Exchange] = [*inside, *[_NONE] * (power - len(inside) + place)]
        if place + 1 < len(parts):
            line.append(_absorbed(blocks, parts[place + 1:]))
            line += inside
        # Last, the a_l blocks of the part average, peer by peer.
        line.append(_averaged(np.stack(blocks, axis=1)))
        lines.append(line)
    result = _together(lines)
    return result if len(result[-1]) else result[:-1]


def _digits(peers: Peers, base: int) -> list[list[Peers]]:
    parts: list[list[Peers]] = []
    start, left = 0, len(peers)
    power = 1
    while power * base <= left:
        power *= base
    while left:
        digit = left // power
        if digit:
            parts.append([peers[start + a * power:start + (a + 1) * power] for a in range(digit)])
        start, left, power = start + digit * power, left - digit * power, power // base
    return parts


def _absorbed(blocks: Sequence[Peers], later: Sequence[Sequence[Peers]]) -> Exchange:
    """Return the links from each peer of the later parts to a peer of each block; both sides then have the mean."""
    peers = np.concatenate([block for part in later for block in part])
    weight = len(blocks[0]) / (len(peers) + sum(len(block) for block in blocks))
    return np.concatenate([np.stack([peers, block[:len(peers)], np.full(len(peers), weight)], axis=1)
                           for block in blocks])
