"""YAML: what is written for a setting is read back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pser.base.documents import as_yaml, read_text, read_yaml
from p2pser.base.errors import ConfigError

TEXTS = st.text(st.characters()) | st.sampled_from(
    ["none", "null", "~", "12:30", "1e3", "0o7", "yes", "*a", "&a", "!x", "- a", "a: b #c", " a ", "a\nb", "\udcfc",
     "/data/\U0001f600/\U00020bb7", "\x7f\x85\u2028\ufeff", "x" * 300])


@given(TEXTS | st.lists(TEXTS | st.none(), max_size=3) | st.integers() | st.booleans() | st.floats(allow_nan=False))
def test_a_value_is_read_back_as_it_was(value: Any) -> None:
    assert read_yaml(as_yaml(value), "it", ConfigError) == value


def test_a_path_is_its_text() -> None:
    assert read_yaml(as_yaml(Path("/data/\U0001f600 a: b")), "it", ConfigError) == "/data/\U0001f600 a: b"


def test_a_text_file_has_at_most_the_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("x" * 2048)
    assert read_text(path, "the run file", ConfigError, 2048) == "x" * 2048
    path.write_text("x" * 2049)
    with pytest.raises(ConfigError, match=r"the run file .* is larger than 2 KiB"):
        read_text(path, "the run file", ConfigError, 2048)
