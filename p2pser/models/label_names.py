"""The labels on a model's card: names that differ, and the same in all entries."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any


def are_distinct(labels: Sequence[str]) -> bool:
    """Whether labels are names, which differ by more than case and blanks at their ends."""
    names = {unicodedata.normalize("NFC", label).strip().lower() for label in labels}  # as emotions.canonical
    return len(names) == len(labels) and "" not in names


def require_names(labels: Sequence[str], document: Mapping[str, Any]) -> None:
    """Raise ValueError where the entries for programs of Hugging Face name other labels, or in another order."""
    for entry, expected in (("id2label", {str(k): label for k, label in enumerate(labels)}),
                            ("label2id", {label: k for k, label in enumerate(labels)})):
        if document.get(entry, expected) != expected:
            raise ValueError(f"its labels and its {entry} contradict each other")
