"""YAML: what is written for a setting is read back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.documents import as_yaml, read_yaml
from p2pser.base.errors import ConfigError

TEXTS = st.text(st.characters()) | st.sampled_from(
    ["none", "null", "~", "12:30", "1e3", "0o7", "yes", "*a", "&a", "!x", "- a", "a: b #c", " a ", "a\nb", "\udcfc",
     "/data/\U0001f600/\U00020bb7", "\x7f\x85\u2028\ufeff", "x" * 300])


@given(TEXTS | st.lists(TEXTS | st.none(), max_size=3) | st.integers() | st.booleans() | st.floats(allow_nan=False))
def test_a_value_is_read_back_as_it_was(value: Any) -> None:
    assert read_yaml(as_yaml(value), "it", ConfigError) == value


def test_a_path_is_its_text() -> None:
    assert read_yaml(as_yaml(Path("/data/\U0001f600 a: b")), "it", ConfigError) == "/data/\U0001f600 a: b"
