"""The synthetic corpus: emotional speech made with espeak-ng on first use. For trying the system only.

24 speakers (12 female, 12 male; voices of espeak-ng in German, English and Spanish), five emotions as prosody,
600 clips of 16 kHz mono, the same bytes for the same seed (``prosody.py`` holds the plan). espeak-ng (GPL) runs in a
helper process for each speaker; the package ``espeakng-loader`` contains its library and voices.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2pser.base import seeding
from p2pser.base.atomic import new_folder
from p2pser.base.errors import CorpusError
from p2pser.base.paths import cache_folder, packaged
from p2pser.corpora import prosody, sentences
from p2pser.corpora.manifest import Clip, Corpus, assemble, read_manifest, write_manifest
from p2pser.corpora.prosody import DIMENSIONS, Speaker, Take
from p2pser.corpora.sentences import SENTENCES

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = "1"
"""Changes whenever the clips of a seed change."""

SAMPLE_RATE = 16000
"""The sample rate of the clips [Hz]."""

_LEVEL = -27.0  # RMS of a clip of level 0 [dB of full scale]
_HELPER = packaged("corpora/espeak_helper.py")
_LONGEST_PATH = 120  # espeak-ng keeps the path of its data in a short buffer


def corpus(seed: int = 0, language: str | None = None) -> Corpus:
    """Return the synthetic corpus of a seed, made on first use and kept in the cache folder.

    In one ``language`` (``de``, ``en`` or ``es``) it is called ``synthetic:LANGUAGE``; the default has all three.
    Several processes may call it at once: one makes the corpus, the others wait. Raises CorpusError where it has to be
    made and ``espeakng-loader`` is not installed, espeak-ng fails, or the cache folder cannot be written.
    """
    name = "synthetic" if language is None else f"synthetic:{language}"
    folder = cache_folder() / "synthetic" / f"v{VERSION}-{_recipe()}-seed{seed}{f'-{language}' if language else ''}"
    read = _kept(folder)
    if read is None:
        _make_once(folder, seed, language)
        read = read_manifest(folder / "manifest.csv")
    return assemble(name, VERSION, read.clips, read.left_out, folder, synthetic=True)


def _kept(folder: Path) -> Corpus | None:
    """Return the corpus that was made in a folder; None where it is not whole: systems remove old temporary files one
    by one.
    """
    try:
        read = read_manifest(folder / "manifest.csv")
    except CorpusError:
        return None
    return None if read.left_out else read


def _recipe() -> str:
    """Return a digest of the code that makes the clips, so that clips of another version are not used."""
    digest = hashlib.blake2b(digest_size=4)
    for source in (_HELPER, Path(__file__), Path(prosody.__file__), Path(sentences.__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _make_once(folder: Path, seed: int, language: str | None) -> None:
    from filelock import FileLock, Timeout

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _report("waiting for the synthetic corpus, which another process makes")
            lock.acquire()
        try:
            if _kept(folder) is None:
                _into(folder, seed, language)
        finally:
            lock.release()
    except OSError as error:
        raise CorpusError(f"cannot make the synthetic corpus in {folder}: {error.strerror or error}; choose "
                          "another cache folder with P2PSER_CACHE") from None


def _into(folder: Path, seed: int, language: str | None) -> None:
    """Make the corpus in ``folder``, completely or not at all."""
    with new_folder(folder, durable=False) as partial:
        generate(partial, seed, language=language, progress=True)
        if folder.exists():  # it is not whole
            shutil.rmtree(folder)


def generate(
    folder: Path | str,
    seed: int = 0,
    *,
    language: str | None = None,
    speakers: int | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Corpus:
    """Make the corpus of a seed in ``folder`` (``SPEAKER/EMOTION-TAKE.wav`` and ``manifest.csv``); return it.

    The manifest's extra columns hold the requested prosody.

    Parameters
    ----------
    folder : where the clips are written.
    seed : the seed of all draws.
    language : the one language of all speakers; None: three languages.
    speakers : the number of speakers; their clips are the same as in the whole corpus, which is the default.
    workers : the number of simultaneous helper processes; None: one for each usable processor.
    progress : whether to report progress on standard error.

    Raises CorpusError where ``espeakng-loader`` is not installed or espeak-ng fails.
    """
    folder = Path(folder)
    library, data = _espeak()
    planned = prosody.plan(seed, language)[:speakers]
    workers = workers or len(os.sched_getaffinity(0))
    report = _reporter(len(planned)) if progress else lambda done: None
    clips: list[Clip] = []
    with tempfile.TemporaryDirectory() as short:
        if len(data) > _LONGEST_PATH:
            Path(short, "espeak-ng-data").symlink_to(Path(data, "espeak-ng-data"))
            data = short
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(_make_speaker, folder, seed, speaker, library, data) for speaker in planned]
            try:
                for done, job in enumerate(as_completed(jobs), 1):
                    clips += job.result()
                    report(done)
            finally:
                pool.shutdown(cancel_futures=True)
    made = assemble("synthetic", VERSION, clips, [], folder, synthetic=True)
    write_manifest(made, folder / "manifest.csv")
    return made


def _espeak() -> tuple[str, str]:
    """Return the paths of espeak-ng's library and of the folder that holds its data."""
    try:
        import espeakng_loader
    except ImportError:
        raise CorpusError(
            "the synthetic corpus is made with espeak-ng, which is not installed: pip install 'p2pser[synthetic]', "
            "or name your own recordings with --data"
        ) from None
    return str(espeakng_loader.get_library_path()), str(Path(espeakng_loader.get_data_path()).parent)


def _make_speaker(folder: Path, seed: int, speaker: Speaker, library: str, data: str) -> list[Clip]:
    place = folder / speaker.name
    place.mkdir(parents=True, exist_ok=True)
    rate, spoken = _speak(speaker, library, data)
    stretch = _Stretch(rate, speaker.tract)
    clips = []
    for number, (take, samples) in enumerate(zip(speaker.takes, spoken)):
        noise = seeding.generator(seed, f"synthetic noise {speaker.name}", round=number)
        path = place / f"{take.emotion}-{take.number + 1}.wav"
        _write(path, _record(stretch(samples), take, noise))
        clips.append(_clip(path, speaker, take))
    return clips


def _clip(path: Path, speaker: Speaker, take: Take) -> Clip:
    requested = {name: repr(value) for name, value in zip(DIMENSIONS, take.prosody)}
    arousal, valence, dominance = take.affect
    return Clip(
        path=path,
        speaker=speaker.name,
        emotion=take.emotion,
        gender=speaker.gender,
        language=speaker.language,
        arousal=arousal,
        valence=valence,
        dominance=dominance,
        transcript=SENTENCES[speaker.language][take.text],
        extra={"text": f"{take.text:02d}", "synthetic": "espeak-ng", **requested},
    )


def _request(take: Take, language: str) -> dict[str, Any]:
    pitch, spread, rate, _, gap = take.prosody
    return {
        "text": SENTENCES[language][take.text],
        "pitch": round(50 + pitch / prosody.SEMITONES_PER_POINT),
        "range": round(50 + spread),
        "rate": round(165 * float(np.exp(rate))),
        "gap": round(2 + gap),
    }


def _speak(speaker: Speaker, library: str, data: str) -> tuple[int, list[NDArray[np.int16]]]:
    """Return the sample rate [Hz] and the samples of a speaker's takes, from a helper process."""
    request = {"library": library, "data": data, "voice": speaker.voice,
               "clips": [_request(take, speaker.language) for take in speaker.takes]}
    helper = subprocess.run([sys.executable, "-I", str(_HELPER)], input=json.dumps(request).encode(),
                            capture_output=True, check=False)
    if helper.returncode:
        reason = helper.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise CorpusError(f"espeak-ng could not speak for {speaker.name}: {reason or f'exit {helper.returncode}'}")
    answer = memoryview(helper.stdout)
    (rate,) = struct.unpack_from("<I", answer)
    spoken: list[NDArray[np.int16]] = []
    start = 4
    while start < len(answer):
        (size,) = struct.unpack_from("<I", answer, start)
        spoken.append(np.frombuffer(answer, "<i2", size // 2, start + 4))
        start += 4 + size
    if len(spoken) != len(speaker.takes):
        raise CorpusError(f"espeak-ng spoke {len(spoken)} of {len(speaker.takes)} clips of {speaker.name}")
    return rate, spoken


class _Stretch:
    """Resample to 16 kHz and, played ``tract`` times as fast, to a shorter vocal tract.

    By scipy's polyphase filter, whose plain loops give the same bits on every processor.
    """

    def __init__(self, rate: int, tract: float) -> None:
        from scipy.signal import firwin

        self.up, self.down = 320, round(320 * rate / SAMPLE_RATE * tract)
        longer = max(self.up, self.down)
        self.window = firwin(16 * longer + 1, 0.95 / longer, window=("kaiser", 6.0))

    def __call__(self, samples: NDArray[np.int16]) -> NDArray[np.float64]:
        from scipy.signal import resample_poly

        signal = samples.astype(np.float64) / 32768
        out: NDArray[np.float64] = resample_poly(signal, self.up, self.down, window=self.window)
        return out


def _record(signal: NDArray[np.float64], take: Take, random: np.random.Generator) -> NDArray[np.int16]:
    """Return the samples as recorded in the session: level, vocal effort, frequency response, background."""
    level = take.prosody[DIMENSIONS.index("level")]
    spectrum = np.fft.rfft(signal, _even(len(signal)))
    octaves = np.log2(np.maximum(np.linspace(0, SAMPLE_RATE / 2, len(spectrum)), 60) / 1000)
    effort = 0.35 * level * np.clip(octaves, -1.5, 1.5)  # louder speech has the flatter spectrum
    bands = np.linspace(-4, 3, len(take.equaliser))
    gain = effort + np.interp(octaves, bands, take.equaliser)
    signal = np.fft.irfft(spectrum * 10 ** (gain / 20))[: len(signal)]
    signal *= 10 ** ((_LEVEL + level) / 20) / max(float(np.sqrt(np.mean(signal**2))), 1e-9)
    floor = 10 ** ((_LEVEL - take.snr) / 20)
    signal = signal + floor * random.standard_normal(len(signal))
    peak = float(np.abs(signal).max())
    return np.round(signal * (32767 * min(1.0, 0.98 / peak))).astype("<i2")


def _even(length: int) -> int:
    """Return the next multiple of 4096, for a fast transform."""
    return -(-length // 4096) * 4096


def _write(path: Path, samples: NDArray[np.int16]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())


def _report(line: str, end: str = "\n") -> None:
    print(f"p2pser: {line}", end=end, file=sys.stderr, flush=True)


def _reporter(total: int) -> Callable[[int], None]:
    """Return a function that reports the number of finished speakers: one line, which a terminal updates."""
    what = "making the synthetic corpus with espeak-ng (once)"
    if not sys.stderr.isatty():
        _report(what)
        return lambda done: None
    return lambda done: _report(f"{what}: {done}/{total} speakers", "\r" if done < total else "\n")
