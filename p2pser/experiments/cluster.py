"""The runs of a plan as tasks of a Ray cluster: each takes one core of one of its machines.

Ray starts a task again where its worker or machine dies. All machines need the same p2pser with the extras of the run,
and the corpus under the same path.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.base.version import __version__
from p2pser.experiments.jobs import Document, Job

RETRIES = 3
"""How often Ray starts a task again whose worker or machine has died."""
ANSWER = 5.0
"""How long the head of a cluster may take to accept a connection [s]."""


def computed(tasks: Sequence[tuple[Any, ...]], address: str) -> Iterator[tuple[Job, Document]]:
    """Yield each task's job with its result when it is finished.

    Parameters
    ----------
    tasks : arguments of ``execution.execute``, the job first.
    address : of the cluster's head, such as ``10.0.0.5:6379`` or ``ray://10.0.0.5:10001``; ``auto``: that of this
        machine.

    Raises ConfigError where Ray is not installed, no cluster answers at the address, or a machine has another version
    of p2pser, and P2PSERError where a run failed, with the machine on which it did, or its machines died ``RETRIES``
    times.
    """
    with _connected(address) as ray:
        run = ray.remote(num_cpus=1, max_retries=RETRIES)(execute)
        pending = {run.remote(__version__, task): task[0] for task in tasks}
        while pending:
            (finished,), _ = ray.wait(list(pending), num_returns=1)
            try:
                yield pending.pop(finished), ray.get(finished)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise P2PSERError(f"a run was lost with its machine {RETRIES + 1} times ({type(error).__name__}); the "
                                  "finished ones are kept: see `ray status`, and give the command again") from None


def execute(version: str, task: tuple[Any, ...]) -> Document:
    """Run a task on the machine where this is called."""
    from p2pser.experiments import execution

    here = socket.gethostname()
    if version != __version__:
        raise ConfigError(f"the machine {here} of the cluster has p2pser {__version__}, and this one {version}: "
                          "install the same on all")
    try:
        return execution.execute(*task)
    except P2PSERError as error:
        raise type(error)(f"on the machine {here} of the cluster: {error}") from None


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import ray
    except ImportError:
        raise ConfigError("--cluster needs Ray: pip install 'p2pser[cluster]' on all machines of the cluster") from None
    try:
        if address != "auto":
            # Ray itself would try for a quarter of an hour.
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray cluster answers at {address} ({str(error).splitlines()[0]}): start its head with "
                          "`ray start --head`, and give the address that it prints") from None
    try:
        yield ray
    finally:
        ray.shutdown()
