"""Lists of emotions from outside: bounded, in canonical form; and their union, whatever the order."""

from __future__ import annotations

import itertools

import pytest

from p2pser.wire.labels import LONGEST, MOST, read_labels, union


def test_a_list_comes_back_in_its_order() -> None:
    assert read_labels(["sadness", "anger", "pleasant surprise", "Wut"]) == (
        "sadness", "anger", "pleasant surprise", "Wut")
    assert read_labels(()) == ()
    assert len(read_labels([f"{k:064d}" for k in range(MOST)])) == MOST


@pytest.mark.parametrize(("document", "why"), [
    ([f"{k}" for k in range(MOST + 1)], "not a list of at most 64"), ("anger", "not a list"), (None, "not a list"),
    ({"anger": 1}, "not a list"), (["anger", 1], "not text"), ([b"anger"], "not text"),
    (["anger", "anger"], "canonical"),
    ([""], "canonical"), ([" anger"], "canonical"), (["an\x1bger"], "canonical"), (["a\nb"], "canonical"),
    (["a" * (LONGEST + 1)], "canonical"), (["a\u0308rger"], "canonical")])
def test_another_form_is_refused(document: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_labels(document)


def test_a_union_does_not_depend_on_the_order_also_where_there_are_too_many() -> None:
    lists = [tuple(f"{letter}{k}" for k in range(40)) for letter in "cab"]
    unions = {union(union(a, b), c) for a, b, c in itertools.permutations(lists)}
    assert len(unions) == 1
    (found,) = unions
    assert len(found) == MOST
    assert found[:2] == ("a0", "a1")
    assert found == tuple(sorted(found))
