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


@pytest.mark.parametrize(("text", "value"), [
    ("010", "010"), ("-0777", "-0777"), ("1:30", "1:30"), ("10:20:30.5", "10:20:30.5"), ("0x1f", "0x1f"), ("no", "no"),
    ("on", "on"), ("2024-01-01", "2024-01-01"), ("{01: anger}", {"01": "anger"}), ("0", 0), ("-12", -12), ("+4", 4),
    ("1_000", 1000), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1.5e-3", 0.0015), ("-.inf", float("-inf")),
    ("true", True), ("False", False), ("~", None)])
def test_plain_values_are_decimal_numbers_truth_values_null_or_text(text: str, value: Any) -> None:
    read = read_yaml(text, "it", ConfigError)
    assert (read, type(read)) == (value, type(value))
