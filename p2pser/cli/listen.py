"""``p2pser listen``: the emotion of speech while it is spoken."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from p2pser.base.errors import ConfigError, P2PSERError
from p2pser.base.wording import counted, extra
from p2pser.cli.common import encoder_option, enrolled, renamed
from p2pser.cli.kinds import LONGEST, Number, Source
from p2pser.cli.output import echo, note, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from p2pser.inference.answers import Answer

BLOCK = 0.05
"""Length of the blocks that are read [s], and so the longest delay of a window after its end."""

BEHIND = 64
"""Largest number of blocks that wait for the model; beyond it the source waits."""


@click.command()
@click.argument("model", metavar="MODEL_DIR", type=Source())
@click.option("--raw", is_flag=True, help="Read raw PCM (s16le, mono) from standard input instead of a microphone.")
@click.option("--rate", type=click.IntRange(min=4000, max=192000), default=16000, show_default=True, metavar="HZ",
              help="Samples per second of --raw or of the microphone.")
@click.option("--microphone", metavar="NAME|NUMBER", help="Microphone.  [default: the system's]")
@renamed("--device", "--microphone")
@click.option("--window", type=Number(min=0, min_open=True, max=LONGEST), default=3.0, show_default=True, metavar="S",
              help="Length of the window of a label [s].")
@click.option("--hop", type=Number(min=0, min_open=True, max=1.0), default=1.0, show_default=True,
              metavar="S", help="Time from one window to the next, 0.1 or more [s].")
@click.option("--silence", type=Number(max=0), default=-55.0, show_default=True, metavar="DB",
              help="A window whose loudest 50 ms are below this level has no label [dBFS].")
@click.option("--enrol", type=Source(exists=True), default=None, metavar="DIR",
              help="Recordings of the same speaker, whose statistics scale the features.")
@click.option("--adapt/--no-adapt", default=True, show_default=True,
              help="Adapt to the speaker's statistics while they speak (models with speaker statistics only).")
@encoder_option
@click.option("--verbose", is_flag=True, help="Print the delay of each label on standard error.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document for each label, on a line of its own.")
def listen(model: Path, raw: bool, rate: int, microphone: str | None, window: float, hop: float, silence: float,
           enrol: Path | None, adapt: bool, encoder: str | None, verbose: bool, as_json: bool) -> None:
    """Print the emotion of speech while it is spoken, at least once a second, until Ctrl-C or the end of the stream.

    One speaker is assumed. Where the machine is too busy to answer in time, windows are skipped and counted.

    Example: p2pser listen runs/demo/peer-3/model

    Example: ffmpeg -loglevel error -i talk.mp3 -f s16le -ac 1 -ar 16000 - | p2pser listen runs/demo/peer-3/model --raw
    """
    if raw and microphone is not None:
        raise click.UsageError("--microphone reads a microphone, and --raw reads standard input: give one of them")
    from p2pser.inference.predictor import load
    from p2pser.inference.timeline import Stream
    from p2pser.inference.windows import Window

    predictor = load(model, encoder)
    wrong: list[tuple[Path, str]] = []
    own = enrolled(predictor, enrol, wrong)
    for path, reason in wrong:
        note(shown(f"p2pser: {path}: {reason}"))
    if remark := predictor.note(own is not None):
        note(shown(f"p2pser: {remark}"))
    stream = Stream(predictor, rate, window=window, hop=hop, silence=silence, own=own, adapt=adapt)
    predictor.warm(window)
    source = _standard_input(rate) if raw else _microphone(rate, microphone)
    note("p2pser: listening")
    delays: list[float] = []

    def answer(window: Window, arrived: float) -> None:
        segment = stream.hear(window)
        if as_json:
            echo(json.dumps(segment.to_dict(), allow_nan=False))
        else:
            text = "(silence)" if segment.answer is None else shown(_text(segment.answer))
            echo(f"{segment.start:8.2f} {segment.end:8.2f}  {text}")
        delays.append(time.monotonic() - arrived)
        if verbose:
            note(f"p2pser: {segment.end:.2f} s: answered after {1000 * delays[-1]:.0f} ms")

    skipped, arrived = 0, time.monotonic()
    for samples, arrived, behind in source:
        complete = stream.cut(samples)
        if behind and complete:
            skipped += len(complete)
            continue
        for part in complete:
            answer(part, arrived)
    for part in stream.rest():
        answer(part, arrived)
    _close(delays, skipped)


def _text(answer: Answer) -> str:
    best = answer.top(1)
    probability = f" {best[0][1]:.2f}" if best else ""
    if answer.unsure:
        return f"{answer.answer}: {answer.unsure}"
    return answer.answer + probability + "".join(f"  {name} {value:+.2f}" for name, value in answer.dimensions.items())


def _close(delays: list[float], skipped: int) -> None:
    if not delays:
        raise P2PSERError("the stream is shorter than a tenth of a second, so it has no label: send a longer one")
    ordered = sorted(delays)
    note(f"p2pser: {counted(len(delays), 'label')}, delay {1000 * ordered[len(ordered) // 2]:.0f} ms (median), at most "
         f"{1000 * ordered[-1]:.0f} ms; {counted(skipped, 'window')} skipped")


def _samples(block: bytes) -> NDArray[np.float32]:
    import numpy as np

    from p2pser.features.samples import scaled

    return scaled(np.frombuffer(block, dtype="<i2"))


Blocks: TypeAlias = "Iterator[tuple[NDArray[np.float32], float, bool]]"
"""Samples, the time at which they arrived [s, monotonic], and whether windows must be skipped, as many blocks wait."""


def _standard_input(rate: int) -> Blocks:
    """Yield the samples of standard input until it ends. A source that is too fast waits, so nothing is skipped."""
    from p2pser.features.samples import refuse_header

    def read(put: Callable[[bytes], None]) -> None:
        # Not sys.stdin: a waiting thread would hold its lock while the interpreter ends.
        while block := os.read(0, 2 * round(BLOCK * rate)):
            put(block)

    if sys.stdin is None:
        raise click.UsageError("standard input, which --raw reads, is closed: pipe samples in")
    rest, begun = b"", False  # half a sample
    for block, arrived, _ in _from_thread(read):
        rest += block
        whole = len(rest) // 2 * 2
        if whole:
            if not begun:
                refuse_header(rest)
            begun = True
            yield _samples(rest[:whole]), arrived, False
        rest = rest[whole:]


def _microphone(rate: int, name: str | None) -> Blocks:
    """Yield the samples of a microphone until Ctrl-C. Raises ConfigError where it cannot be used."""
    try:
        import sounddevice
    except ImportError:
        raise ConfigError(f"listening to a microphone needs the extra live: {extra('live')}; or pipe raw PCM "
                          "in with --raw") from None
    except OSError as error:
        raise ConfigError(f"the microphone's library cannot be loaded ({error}): install PortAudio, or pipe raw PCM in "
                          "with --raw") from None

    def read(put: Callable[[bytes], None]) -> None:
        device = int(name) if name is not None and name.isdecimal() else name
        with sounddevice.RawInputStream(rate, round(BLOCK * rate), device, 1, "int16") as stream:
            while True:
                put(bytes(stream.read(round(BLOCK * rate))[0]))

    try:
        for block, arrived, waiting in _from_thread(read):
            yield _samples(block), arrived, waiting * BLOCK > 1
    except (sounddevice.PortAudioError, ValueError) as error:  # ValueError: no device or several of this name
        raise ConfigError(f"the microphone {name or 'of the system'} cannot be used: {error}; python -m sounddevice "
                          "lists the devices") from None


def _from_thread(read: Callable[[Callable[[bytes], None]], None]) -> Iterator[tuple[bytes, float, int]]:
    """Yield (block, time of its arrival, number of waiting blocks) of a source that a separate thread reads."""
    blocks: queue.Queue[tuple[bytes, float] | Exception | None] = queue.Queue(BEHIND)

    def work() -> None:
        try:
            read(lambda block: blocks.put((block, time.monotonic())))
        except Exception as error:  # raised again in the thread that takes the blocks
            blocks.put(error)
        blocks.put(None)

    threading.Thread(target=work, name="listen", daemon=True).start()
    while (block := blocks.get()) is not None:
        if isinstance(block, Exception):
            raise block
        yield (*block, blocks.qsize())
