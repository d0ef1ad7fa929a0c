"""The runs of a plan, over processes. A finished run is a file, so that a second call computes only what is missing."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path

from p2pser.base.atomic import write_json
from p2pser.base.errors import P2PSERError
from p2pser.base.processes import refuse_unguarded_script
from p2pser.base.progress import progress as progress_bar
from p2pser.evaluation.metrics import Predictions
from p2pser.experiments import cluster, tuning
from p2pser.experiments.jobs import Document, Job, Plan
from p2pser.experiments.results import Results, predictions
from p2pser.peer.launch import PRELOAD

Done = Callable[[Job, bool], None]
"""Called in this process for each job, with whether its result was found on disk."""


def run(plan: Plan, *, processes: int | str | None = None, done: Done = lambda job, stored: None) -> Results:
    """Return the results of all jobs, and compute those that are missing.

    Where a grid is given, the inner folds come first, and each scheme takes the best point of its grid. The results
    that are finished when a job fails or the user interrupts stay on disk.

    Parameters
    ----------
    plan : the jobs.
    processes : default one for each processor; a text is the address of a Ray cluster (``cluster.computed``).
    done : called for each job.
    """
    inner: dict[Job, Document] = {}
    if plan.tunes and not plan.chosen:
        inner = _results(plan, plan.tuning_jobs(), processes, done)
        plan = replace(plan, chosen=_chosen(inner))
    return Results(plan, _results(plan, plan.jobs(), processes, done), inner)


def run_all(plans: Mapping[str, Plan], *, processes: int | str | None = None,
            progress: bool = False) -> dict[str, Results]:
    """Return the results of several plans by name, in turn; ``progress`` shows a bar for the jobs of all."""
    total = sum(len(plan.tuning_jobs()) + len(plan.jobs()) for plan in plans.values())
    results: dict[str, Results] = {}
    with progress_bar("runs", total, wanted=progress) as bar:
        for name, plan in plans.items():
            def done(job: Job, stored: bool, name: str = name) -> None:
                bar.advance(text=f"{name}, {job}" if name else str(job))

            results[name] = run(plan, processes=processes, done=done)
    return results


def _chosen(inner: dict[Job, Document]) -> dict[tuple[str, str, int], str]:
    """Return the best point of the grid for each (kind, scheme, fold)."""
    scores: dict[tuple[str, str, int], dict[str, list[list[Predictions]]]] = {}
    for job, document in inner.items():
        by_value = scores.setdefault((job.kind, job.scheme, job.fold), {})
        by_value.setdefault(job.value, []).append(predictions(document))
    return {key: tuning.best(by_value) for key, by_value in scores.items()}


def path(plan: Plan, job: Job) -> Path | None:
    """Return the file of a job's result; None where results are not kept."""
    return None if plan.out is None else plan.out / ("runs" if job.inner is None else "inner") / job.file


def known(plan: Plan) -> Results:
    """Return the results of the jobs that are finished, without computing any.

    Where a grid is given, runs on outer folds are known only after all on inner folds.
    """
    inner = _stored(plan, plan.tuning_jobs()) if plan.tunes else {}
    if plan.tunes and not plan.chosen:
        if len(inner) < len(plan.tuning_jobs()):
            return Results(plan, {}, inner)
        plan = replace(plan, chosen=_chosen(inner))
    return Results(plan, _stored(plan, plan.jobs()), inner)


def _stored(plan: Plan, jobs: Sequence[Job]) -> dict[Job, Document]:
    documents = {job: stored(plan, job) for job in jobs}
    return {job: document for job, document in documents.items() if document is not None}


def stored(plan: Plan, job: Job) -> Document | None:
    """Return a finished job's result; None where it is missing, damaged or of other settings."""
    file = path(plan, job)
    if file is None:
        return None
    try:
        document: Document = json.loads(file.read_text(encoding="utf-8"))
        return document if document["fingerprint"] == plan.fingerprint(job) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _results(plan: Plan, jobs: Sequence[Job], processes: int | str | None, done: Done) -> dict[Job, Document]:
    results: dict[Job, Document] = {}
    missing: list[Job] = []
    for job in jobs:
        document = stored(plan, job)
        if document is None:
            missing.append(job)
        else:
            results[job] = document
            done(job, True)
    for job, document in _computed(plan, missing, processes or os.cpu_count() or 1):
        file = path(plan, job)
        if file is not None:
            document["fingerprint"] = plan.fingerprint(job)
            write_json(file, document)
        results[job] = document
        done(job, False)
    return {job: results[job] for job in jobs}


def _computed(plan: Plan, jobs: Sequence[Job], processes: int | str) -> Iterator[tuple[Job, Document]]:
    """Yield each job with its result when it is finished."""
    from p2pser.experiments.execution import execute

    tasks = [(job, plan.settings(job), plan.topologies.get(job.scheme), plan.peers, plan.hub, plan.conditions_of(job),
              plan.data) for job in jobs]
    if isinstance(processes, str):
        yield from cluster.computed(tasks, processes) if tasks else ()
        return
    if processes == 1 or len(jobs) < 2:
        for task in tasks:
            yield task[0], execute(*task)
        return
    refuse_unguarded_script()
    # A child forked from here would inherit torch's and numba's threads in whatever state they are; the forkserver has
    # none, and imports torch once for all of them.
    context = get_context("forkserver")
    context.set_forkserver_preload([execute.__module__, PRELOAD])
    others = set(active_children())
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _start_worker) as pool:
        futures: dict[Future[Document], Job] = {pool.submit(execute, *task): task[0] for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise P2PSERError("a process of the runs ended before its result: its last lines above say why; a script "
                              'that starts runs must do so under `if __name__ == "__main__":`') from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:
                worker.kill()  # what it has begun is not wanted any more, and would delay the end by as much
            raise


def _start_worker() -> None:
    """Prepare a worker process: it ends when its parent ends, and Ctrl-C is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process with its parent; without, a parent that is killed leaves workers that wait for ever."""
    wait([sentinel])
    os._exit(1)
