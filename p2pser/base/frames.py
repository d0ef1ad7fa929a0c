"""Results as pandas frames, where pandas is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from p2pser.base.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return a frame with a line per row; a nested mapping becomes columns ``name.key``.

    Raises ConfigError where pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ConfigError("to_frame needs pandas: install p2pser with the extra frames (pip install 'p2pser[frames]')"
                          ) from None
    return pandas.json_normalize([dict(row) for row in rows])
