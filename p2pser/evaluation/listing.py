"""A CSV with a row per prediction, for statistics programs and spreadsheets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from p2pser.base.atomic import put
from p2pser.base.errors import ConfigError
from p2pser.base.frames import to_csv
from p2pser.corpora.emotions import DIMENSIONS
from p2pser.evaluation.calibration import probabilities
from p2pser.evaluation.concordance import Ratings
from p2pser.evaluation.metrics import Predictions


def rows(predictions: Predictions, labels: Sequence[str], **same: Any) -> Iterator[dict[str, Any]]:
    """Yield a row per clip: path, speaker, gender, fold, target, predicted, and a column ``p_LABEL`` per label with its
    probability (where there are logits). ``same``: columns with one value for all rows (corpus, seed, scheme).
    """
    chances = None if predictions.logits is None else probabilities(predictions)
    for place, speaker in enumerate(predictions.speakers):
        row = {
            **same,
            "path": predictions.paths[place] if predictions.paths else "", "speaker": speaker,
            "gender": predictions.genders[place] if predictions.genders else "", "fold": int(predictions.folds[place]),
            "target": labels[predictions.targets[place]], "predicted": labels[predictions.predicted[place]],
        }
        if chances is not None:
            row |= {f"p_{label}": f"{chance:.6f}" for label, chance in zip(labels, chances[place])}
        yield row


def rated_rows(ratings: Ratings, **same: Any) -> Iterator[dict[str, Any]]:
    """Yield a row per clip: path, speaker, fold, and each dimension's target (empty: unknown) and prediction.

    ``same``: columns with one value for all rows.
    """
    for place, speaker in enumerate(ratings.speakers):
        row = {**same, "path": ratings.paths[place] if ratings.paths else "", "speaker": speaker,
               "fold": int(ratings.folds[place])}
        for k, name in enumerate(DIMENSIONS):
            target = ratings.targets[place, k]
            row |= {name: "" if math.isnan(target) else f"{target:.4f}",
                    f"predicted_{name}": f"{ratings.predicted[place, k]:.4f}"}
        yield row


def write(path: Path, table: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV in UTF-8, all or none. Names of files that are no text are escaped.

    Raises ConfigError where that fails: a table that was there stays.
    """
    content = to_csv(list(table)).encode("utf-8", "backslashreplace")
    try:
        put(path, content, pipe=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}; choose another place") from None
