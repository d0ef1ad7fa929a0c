"""Rows as tables."""

from __future__ import annotations

import sys

import pytest

from p2pser.base.errors import ConfigError
from p2pser.base.frames import flat, frame


def test_rows_are_flattened() -> None:
    row = {"name": "ring", "gap": {"mean": 0.5, "interval": [1, 2]}, "settings": ("a=1", "b=2"), "uar": None}
    assert flat(row) == {"name": "ring", "gap_mean": 0.5, "gap_interval": "1 2", "settings": "a=1 b=2", "uar": None}


def test_a_table_has_a_column_for_each_key() -> None:
    pytest.importorskip("pandas")
    table = frame([{"a": 1, "b": "x"}, {"a": 2, "c": 0.5}])
    assert list(table.columns) == ["a", "b", "c"]
    assert table["a"].tolist() == [1, 2]
    assert table["c"].isna().tolist() == [True, False]


def test_without_pandas_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"p2pser\[frames\]"):
        frame([])
