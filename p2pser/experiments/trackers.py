"""Where the measurements of a run can be written to: TensorBoard, MLflow and Trackio, each imported where it is used.

A writer takes the new lines of one peer, and returns the key by which it finds that peer's record the next time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from p2pser.base.errors import ConfigError

BATCH = 500
"""Measurements that MLflow is sent at once; it takes 1000."""


class Line(NamedTuple):
    """The measurements of one round: its number, when it was over [s since the epoch], values by name."""

    round: int
    at: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class News:
    """What has come of one peer since the last time.

    run, peer : whose it is. settings : of the run, by name.
    lines : in the order of their rounds; none where there is nothing new but that the peer has ended.
    finished : whether no more will come.
    record : what the writer returned the last time; "" the first time.
    anew : whether the peer went back to an earlier round: ``lines`` are all that there are, and replace those before.
    """

    run: str
    peer: int
    settings: Mapping[str, Any]
    lines: Sequence[Line]
    finished: bool
    record: str = ""
    anew: bool = False


Writer = Callable[[Path, News], str]
"""(folder, news) -> the record of that peer."""


def to_tensorboard(out: Path, news: News) -> str:
    """Append to the event files of ``OUT/peer-ID/``."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise missing("tensorboard", "tensorboardX", "'p2pser[tensorboard]'") from None
    if not news.lines:
        return news.record
    first = news.lines[0].round
    # The rounds from there on that earlier files hold are hidden.
    writer = SummaryWriter(str(out / f"peer-{news.peer}"), purge_step=first if news.anew else None,
                           filename_suffix=f".{first}")
    try:
        if not news.record:
            writer.add_text("settings", json.dumps(news.settings, indent=1), 0, walltime=news.lines[0].at)
        for line in news.lines:
            for name, value in line.values.items():
                writer.add_scalar(name, value, line.round, walltime=line.at)
    finally:
        writer.close()
    return "written"


def to_mlflow(out: Path, news: News) -> str:
    """Log to a run of the experiment RUN, at ``MLFLOW_TRACKING_URI``, else in ``OUT/mlflow.db``; return its id."""
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
    except ImportError:
        raise missing("mlflow", "mlflow", "mlflow") from None
    client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out.resolve()}/mlflow.db")
    record = news.record
    if record and news.anew:
        client.delete_run(record)
    if not record or news.anew:
        experiment = client.get_experiment_by_name(news.run)
        where = client.create_experiment(news.run) if experiment is None else experiment.experiment_id
        record = client.create_run(where, start_time=_milliseconds(news.lines[0]),
                                   run_name=f"peer-{news.peer}").info.run_id
        settings = [Param(name, str(value)) for name, value in sorted(news.settings.items())]
        for k in range(0, len(settings), 100):
            client.log_batch(record, params=settings[k : k + 100])
    metrics = [Metric(name, value, _milliseconds(line), line.round) for line in news.lines
               for name, value in line.values.items()]
    for k in range(0, len(metrics), BATCH):
        client.log_batch(record, metrics=metrics[k : k + BATCH])
    if news.finished:
        client.set_terminated(record)
    return str(record)


def to_trackio(out: Path, news: News) -> str:
    """Log to a run of the project RUN, in ``TRACKIO_DIR``, else in OUT; return its name."""
    os.environ.setdefault("TRACKIO_DIR", str(out.resolve()))  # read when it is imported
    try:
        import trackio
    except ImportError:
        raise missing("trackio", "trackio", "trackio") from None
    if not news.lines:
        return news.record
    base, _, again = news.record.partition(".")
    record = f"{base}.{int(again or 1) + 1}" if news.anew else news.record or f"peer-{news.peer}"
    with contextlib.redirect_stdout(sys.stderr):  # results are ours
        trackio.init(project=news.run, name=record, config=dict(news.settings), resume="allow")
        try:
            for line in news.lines:
                trackio.log(dict(line.values), step=line.round)
        finally:
            trackio.finish()
    return record


def missing(to: str, package: str, install: str) -> ConfigError:
    """Return the error of a package that is not installed."""
    return ConfigError(f"--to {to} needs the package {package}: pip install {install}")


def _milliseconds(line: Line) -> int:
    return int(line.at * 1000)


TRACKERS: Mapping[str, Writer] = {"tensorboard": to_tensorboard, "mlflow": to_mlflow, "trackio": to_trackio}
