"""Computing many clips: in this process, or in helper processes that this one starts and feeds.

A helper is ``python -m p2pser.features.extractor``: the settings, the variant and paths come on standard input, a
JSON line each, and each outcome goes to standard output, a JSON line and the features' bytes. So it needs neither
the caller's main module nor its threads, works where the caller may not use multiprocessing (a daemonic
process, a script without a guard), and ends with its caller, whose death closes the pipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from p2pser.base.errors import CorpusError
from p2pser.config import FeatureSettings
from p2pser.features import audio, cache
from p2pser.features import kinds as features
from p2pser.features.recording_copies import Variant

FEW = 8
"""Fewer clips than this are computed in this process, however many helpers are wanted."""

MANY = 64
"""Clips for which it pays to start one more helper, where nobody says how many."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """One clip: its features, or the reason why it has none; ``computed`` now, or found by its content.

    ``digest`` is that of its bytes and ``stamp`` its size [B] and time of change [ns] before they were read.
    """

    path: Path
    features: NDArray[np.float32] | None
    reason: str | None = None
    digest: str | None = None
    stamp: tuple[int, int] | None = None
    computed: bool = False


def one(path: Path, settings: FeatureSettings, variant: Variant | None = None) -> Outcome:
    """Compute one clip, or a copy of it, or find it by its content; never raises for what is wrong with the clip."""
    where = features.stores(settings, variant)
    digest = stamp = None
    try:
        state = path.stat()
        stamp = (state.st_size, state.st_mtime_ns)
        digest = cache.content_digest(path)
    except OSError:
        pass  # audio.read says what is wrong
    known = [None if digest is None else store.get(digest) for store in where]
    signal: NDArray[np.float32] | None = None
    raws = []
    try:
        for part, store, found in zip(features.parts(settings), where, known):
            if found is None:
                if signal is None:
                    signal = audio.read(path, settings.sample_rate)
                    if variant is not None and digest is not None:
                        signal = variant(signal, settings.sample_rate, digest)
                found = features.raw(signal, part)
                if digest is not None:
                    # A cache that cannot be written (full, not ours) costs time, not the run.
                    with contextlib.suppress(OSError):
                        store.put(digest, found)
            raws.append(found)
    except CorpusError as error:
        return Outcome(path, None, str(error).removeprefix(f"{path}: "))
    return Outcome(path, features.join(raws, settings), None, digest, stamp, signal is not None)


def helpers(wanted: int | None, clips: int) -> int:
    """Return how many processes to use for so many clips: ``wanted``, or what pays on the usable cores.

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
    """Yield the outcome of each of these paths (no two equal), in any order; 1 worker is this process."""
    if workers == 1:
        yield from (one(path, settings, variant) for path in paths)
        return
    answers: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    started: list[subprocess.Popen[bytes]] = []
    missing = dict.fromkeys(paths)
    try:
        with contextlib.suppress(OSError):
            for number in range(workers):
                started.append(_start())
                share = paths[number::workers]
                threading.Thread(target=_feed, args=(started[-1], share, settings, variant), daemon=True).start()
                threading.Thread(target=_listen, args=(started[-1], share, answers), daemon=True).start()
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
    # What a helper that died, or was never started, has left.
    yield from (one(path, settings, variant) for path in missing)


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen([sys.executable, "-m", "p2pser.features.extractor"], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, env=environment)


def _feed(
    helper: subprocess.Popen[bytes], paths: Sequence[Path], settings: FeatureSettings, variant: Variant | None
) -> None:
    assert helper.stdin is not None
    lines = [settings.model_dump_json(), "null" if variant is None else variant.to_json(),
             *(json.dumps(str(path)) for path in paths)]
    with contextlib.suppress(OSError), helper.stdin as pipe:
        pipe.write("".join(line + "\n" for line in lines).encode())


def _listen(
    helper: subprocess.Popen[bytes], paths: Sequence[Path], answers: queue.SimpleQueue[Outcome | None]
) -> None:
    """Put each answer of a helper into the queue, and None when it has ended."""
    assert helper.stdout is not None
    with contextlib.suppress(OSError, ValueError), helper.stdout as pipe:
        for path in paths:
            answer: dict[str, Any] = json.loads(pipe.readline())
            found = None
            if answer["shape"] is not None:
                found = np.frombuffer(pipe.read(answer["bytes"]), dtype="<f4").reshape(answer["shape"])
                found = found.astype(np.float32)
            stamp = answer["stamp"] and (answer["stamp"][0], answer["stamp"][1])
            answers.put(Outcome(path, found, answer["reason"], answer["digest"], stamp, answer["computed"]))
    answers.put(None)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each path of ``requests``, in order, until they end."""
    settings = FeatureSettings.model_validate_json(requests.readline())
    variant = requests.readline()
    copies = None if json.loads(variant) is None else Variant.from_json(variant)
    for line in requests:
        outcome = one(Path(json.loads(line)), settings, copies)
        data = b"" if outcome.features is None else outcome.features.astype("<f4").tobytes()
        shape = None if outcome.features is None else outcome.features.shape
        head = {"reason": outcome.reason, "digest": outcome.digest, "stamp": outcome.stamp,
                "computed": outcome.computed, "shape": shape, "bytes": len(data)}
        answers.write(json.dumps(head).encode() + b"\n" + data)
        answers.flush()


def main() -> None:
    """Serve on standard input and output; what libraries print goes to standard error."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the caller too, which ends its helpers
    with os.fdopen(os.dup(1), "wb") as answers, contextlib.suppress(BrokenPipeError):
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
