"""Computing many clips: in this process, or in helper processes that it starts.

A helper is ``python -m p2pser.features.extractor``: the modules that define the kinds of features, the settings, the
variant and the paths come on standard input, a JSON line each, and each outcome goes to standard output, a JSON line
and the features' bytes. A helper needs neither the caller's main module nor its threads, works where the caller may
not use multiprocessing (in a daemonic process, in a script without a guard), and ends with its caller, whose death
closes the pipes. Kinds that the main module defines are computed in the caller's process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from p2pser.base.errors import CorpusError
from p2pser.config import FeatureSettings
from p2pser.features import audio, cache, clip_features
from p2pser.features.kind import Array, kind_class
from p2pser.features.recording_copies import Variant

FEW = 8
"""Fewer clips than this are computed in this process, however many helpers are wanted."""

MANY = 64
"""Clips for which one more helper pays, where the number of helpers is not given."""

_MAIN = ("__main__", "__mp_main__")
"""Names of the main module, in a process and in those that multiprocessing starts: no helper can import it."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """One clip: its features, or the reason why it has none; ``computed`` now, or found in the cache.

    ``digest`` is the digest of its bytes, ``stamp`` its size [B] and time of change [ns] before they were read.
    """

    path: Path
    features: Array | None
    reason: str | None = None
    digest: str | None = None
    stamp: tuple[int, int] | None = None
    computed: bool = False


def outcome_of(path: Path, settings: FeatureSettings, variant: Variant | None = None) -> Outcome:
    """Return the outcome of one clip, or of a copy of it: computed, or found in the cache by its content.

    A clip that cannot be used is an outcome with a reason, not an error.
    """
    places = clip_features.stores(settings, variant)
    digest = stamp = None
    try:
        state = path.stat()
        stamp = (state.st_size, state.st_mtime_ns)
        digest = cache.content_digest(path)
    except OSError:
        pass  # audio.read says what is wrong
    signal: Array | None = None
    parts = []
    try:
        for name, place in zip(settings.kinds, places):
            part = None if digest is None else place.get(digest)
            if part is None:
                if signal is None:
                    signal = audio.read(path, settings.sample_rate)
                    if variant is not None and digest is not None:
                        signal = variant(signal, settings.sample_rate, digest)
                part = clip_features.compute_kind(signal, name, settings)
                if digest is not None:
                    place.put(digest, part)
            parts.append(part)
    except CorpusError as error:
        return Outcome(path, None, str(error).removeprefix(f"{path}: "))
    return Outcome(path, clip_features.join(parts, settings), None, digest, stamp, signal is not None)


def helpers(wanted: int | None, clips: int) -> int:
    """Return the number of processes for so many clips: ``wanted``, or as many as pay on the usable cores.

    1 means this process. Raises CorpusError where ``wanted`` is below 1.
    """
    if wanted is not None and wanted < 1:
        raise CorpusError(f"{wanted} processes cannot compute features: use 1 or more")
    if clips < FEW:
        return 1
    if wanted is not None:
        return min(wanted, clips // (FEW // 2))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(usable, clips // MANY))


def outcomes(
    paths: Sequence[Path], settings: FeatureSettings, workers: int, variant: Variant | None = None
) -> Iterator[Outcome]:
    """Yield the outcome of each of these paths (no two equal), in any order.

    Parameters
    ----------
    paths : the recordings.
    settings : the kinds of features and what they depend on.
    workers : number of helper processes; 1 is this process.
    variant : of these copies of the recordings.
    """
    modules = sorted({kind_class(name).__module__ for name in settings.kinds})
    if workers == 1 or not set(_MAIN).isdisjoint(modules):
        yield from (outcome_of(path, settings, variant) for path in paths)
        return
    answers: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    started: list[subprocess.Popen[bytes]] = []
    missing = dict.fromkeys(paths)
    head = [json.dumps(modules), settings.model_dump_json(), "null" if variant is None else variant.to_json()]
    try:
        with contextlib.suppress(OSError):
            for number in range(workers):
                started.append(_start())
                share = paths[number::workers]
                threading.Thread(target=_send, args=(started[-1], head, share), daemon=True).start()
                threading.Thread(target=_receive, args=(started[-1], share, answers), daemon=True).start()
        running = len(started)
        while running:
            outcome = answers.get()
            if outcome is None:
                running -= 1
            else:
                del missing[outcome.path]
                yield outcome
    finally:
        for helper in started:
            helper.kill()
            helper.wait()
    # The clips of a helper that died or could not be started.
    yield from (outcome_of(path, settings, variant) for path in missing)


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, sys.path)])  # plug-ins beside the user's script
    return subprocess.Popen([sys.executable, "-m", "p2pser.features.extractor"], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, env=environment)


def _send(helper: subprocess.Popen[bytes], head: Sequence[str], paths: Sequence[Path]) -> None:
    lines = [*head, *(json.dumps(str(path)) for path in paths)]
    with contextlib.suppress(OSError), cast(IO[bytes], helper.stdin) as pipe:
        pipe.write("".join(line + "\n" for line in lines).encode())


def _receive(
    helper: subprocess.Popen[bytes], paths: Sequence[Path], answers: queue.SimpleQueue[Outcome | None]
) -> None:
    """Put each answer of a helper into the queue, and None when the helper has ended."""
    with contextlib.suppress(OSError, ValueError), cast(IO[bytes], helper.stdout) as pipe:
        for path in paths:
            answer: dict[str, Any] = json.loads(pipe.readline())
            values = None
            if answer["shape"] is not None:
                values = np.frombuffer(pipe.read(answer["bytes"]), dtype="<f4").reshape(answer["shape"])
                values = values.astype(np.float32)
            stamp = answer["stamp"] and (answer["stamp"][0], answer["stamp"][1])
            answers.put(Outcome(path, values, answer["reason"], answer["digest"], stamp, answer["computed"]))
    answers.put(None)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each path of ``requests``, in order, until they end; none where this process lacks a kind of features that
    the caller's code has registered since it was imported: the caller then computes the clips itself.
    """
    try:
        for module in json.loads(requests.readline()):
            importlib.import_module(module)
        settings = FeatureSettings.model_validate_json(requests.readline())
    except Exception:  # the code of another package may raise anything
        return
    variant = requests.readline()
    copies = None if json.loads(variant) is None else Variant.from_json(variant)
    for line in requests:
        outcome = outcome_of(Path(json.loads(line)), settings, copies)
        data = b"" if outcome.features is None else outcome.features.astype("<f4").tobytes()
        shape = None if outcome.features is None else outcome.features.shape
        head = {"reason": outcome.reason, "digest": outcome.digest, "stamp": outcome.stamp,
                "computed": outcome.computed, "shape": shape, "bytes": len(data)}
        answers.write(json.dumps(head).encode() + b"\n" + data)
        answers.flush()


def main() -> None:
    """Serve on standard input and output; the output of libraries goes to standard error."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the caller too, which ends its helpers
    with os.fdopen(os.dup(1), "wb") as answers, contextlib.suppress(BrokenPipeError):
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
