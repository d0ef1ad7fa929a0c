"""Results as tables: pandas frames, if pandas is installed, and CSV; and numbers for JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from p2pser.base.errors import ConfigError
from p2pser.base.wording import extra

if TYPE_CHECKING:
    import pandas


def finite(value: float) -> float | None:
    """Return the number as JSON has it: None where it is not finite."""
    return value if math.isfinite(value) else None


def frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return a frame with a line per row; a nested mapping becomes columns ``name.key``.

    Raises ConfigError where pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ConfigError(f"to_frame needs pandas, of the extra frames: {extra('frames')}") from None
    return pandas.json_normalize([dict(row) for row in rows])


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a CSV file: ``{"gap": {"low": 1}}`` becomes ``{"gap_low": 1}``, and a list its values, separated
    by spaces.
    """
    cells: dict[str, Any] = {}
    for key, value in row.items():
        match value:
            case Mapping():
                cells |= {f"{key}_{part}": cell for part, cell in flat(value).items()}
            case list() | tuple():
                cells[key] = " ".join(map(str, value))
            case _:
                cells[key] = value
    return cells


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Return rows as CSV with empty missing values: these columns, then the others in the order of the rows."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys([*columns, *(name for row in rows for name in row)])), restval="",
                           lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()
