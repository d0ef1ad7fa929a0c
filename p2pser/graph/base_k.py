"""The Base-(k+1) graph: exact consensus of any number of peers in few exchanges, with at most k neighbours each.

Takezawa, Sato, Bao, Niwa and Yamada 2023, "Beyond exponential graph: communication-efficient topologies for
decentralized learning via finite-time convergence". Three constructions, each based on the previous:

- The *k-peer hyper-hypercube* for n whose prime factors are at most k+1: n = n_1 n_2 … n_L with all n_l <= k+1;
  exchange l averages groups of n_l peers whose ids differ in digit l of that mixed radix alone.
- The *Simple Base-(k+1)* graph for any n, by the digits of n in base k+1, n = sum_l a_l (k+1)^(p_l), p_1 > p_2 > …:
  part l has a_l blocks of (k+1)^(p_l) peers. First each block averages. Then, part after part, each peer of all later
  parts averages with one peer of each block of part l, weighted so that part l and the later parts have the overall
  mean; part l then averages while the next part does the same. The last part only averages over its blocks.
- The *Base-(k+1)* graph: n = p q with p the largest factor for which a hyper-hypercube exists; p Simple Base-(k+1)
  graphs of q peers in parallel, then hyper-hypercubes of p across; or the Simple graph where that is shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

Link = tuple[int, int, float]
"""Two peers and the weight that each gives to the other peer."""
Exchange = tuple[Link, ...]


@lru_cache(maxsize=64)
def exchanges(n: int, k: int) -> tuple[Exchange, ...]:
    """Return the links of each exchange of the Base-(k+1) graph on 0 .. n-1; the last one reaches consensus.

    ``n`` > ``k`` >= 1. Each peer has at most k links in an exchange; at most 2 log_{k+1}(n) + 2 exchanges.
    """
    simple = _simple(range(n), k)
    p = _smooth_part(n, k)
    q = n // p
    if p == 1 or q == 1:
        return tuple(simple)
    columns = [_simple(range(block * q, (block + 1) * q), k) for block in range(p)]
    across = [_hyper_hypercube(range(place, n, q), k) for place in range(q)]
    composed = _together(columns) + _together(across)
    return tuple(composed if len(composed) <= len(simple) else simple)


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
    """Run several lists of exchanges on disjoint peers side by side, the shorter ones idle at their end."""
    length = max(len(part) for part in parts)
    return [tuple(link for part in parts for link in (part[t] if t < len(part) else ())) for t in range(length)]


def _averaged(group: Sequence[int]) -> Exchange:
    return tuple((u, v, 1 / len(group)) for place, u in enumerate(group) for v in group[place + 1:])


def _hyper_hypercube(peers: Sequence[int], k: int) -> list[Exchange]:
    radix = factors(len(peers), k + 1) or ()
    result: list[Exchange] = []
    stride = 1
    for base in radix:
        groups = [[peers[start + digit * stride] for digit in range(base)]
                  for start in range(len(peers)) if start // stride % base == 0]
        result.append(tuple(link for group in groups for link in _averaged(group)))
        stride *= base
    return result


def _simple(peers: Sequence[int], k: int) -> list[Exchange]:
    n = len(peers)
    if factors(n, k + 1) is not None:
        return _hyper_hypercube(peers, k)
    parts = _digits(peers, k + 1)  # part l: its blocks, each a power of k+1
    power = len(_hyper_hypercube(parts[0][0], k))  # p_1: the exchanges of the largest blocks
    lines: list[list[Exchange]] = []
    for place, blocks in enumerate(parts):
        inside = _together([_hyper_hypercube(block, k) for block in blocks])
        # From exchange p_1 on, the later parts average with each earlier part in turn.
        line: list[Exchange] = [*inside, *[()] * (power - len(inside) + place)]
        if place + 1 < len(parts):
            line.append(_taken_in(blocks, parts[place + 1:]))
            line += inside
        # Last, the a_l blocks of the part average, peer by peer.
        line.append(tuple(link for group in zip(*blocks) for link in _averaged(group)))
        lines.append(line)
    result = _together(lines)
    return result if result[-1] else result[:-1]


def _digits(peers: Sequence[int], base: int) -> list[list[Sequence[int]]]:
    parts, start, left = [], 0, len(peers)
    power = 1
    while power * base <= left:
        power *= base
    while left:
        digit = left // power
        if digit:
            parts.append([peers[start + a * power:start + (a + 1) * power] for a in range(digit)])
        start, left, power = start + digit * power, left - digit * power, power // base
    return parts


def _taken_in(blocks: Sequence[Sequence[int]], later: Sequence[Sequence[Sequence[int]]]) -> Exchange:
    """Link each peer of the later parts to one peer of each block, so that both sides have the mean of all."""
    takers = [peer for part in later for block in part for peer in block]
    size = len(takers) + sum(len(block) for block in blocks)
    weight = len(blocks[0]) / size
    return tuple((taker, block[place], weight) for place, taker in enumerate(takers) for block in blocks)
