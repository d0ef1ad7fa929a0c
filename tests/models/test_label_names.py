"""Labels that a run can have are those that its card can be read with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pser.corpora.emotions import canonical
from p2pser.models.label_names import are_distinct


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).map(canonical).filter(bool), unique=True))
def test_emotions_of_a_corpus_are_distinct(labels: list[str]) -> None:
    assert are_distinct(labels)


def test_words_of_one_sound_are_two_and_words_of_two_cases_are_one() -> None:
    assert are_distinct([canonical("Straße"), canonical("Strasse")])
    assert not are_distinct(["anger", "Anger "])
    assert not are_distinct(["anger", " "])
