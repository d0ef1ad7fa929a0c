"""Speech of espeak-ng, from a separate process: run as a script, never imported by p2pser.

espeak-ng is under the GPL, so p2pser neither links nor loads it: p2pser starts this script, which reads one JSON
document from standard input and writes samples to standard output. The script imports only the standard library.
espeak-ng keeps state from one clip to the next, so the bytes of a clip are equal only if the clips before it in the
same process are.

Request: ``{"library": PATH, "data": FOLDER, "voice": NAME, "clips": [{"text", "rate", "pitch", "range", "gap"}]}``
with rate in words per minute, pitch and range 0 .. 99 (50: the voice's own), gap in units of 10 ms at normal rate.
Answer: the sample rate [Hz], then for each clip its length [bytes] and its samples (int16 mono); numbers are
uint32; all little-endian. An error is one line on standard error, with exit code 1.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from typing import Any

_SYNCHRONOUS = 2
_RATE, _PITCH, _RANGE, _WORDGAP = 1, 3, 4, 7
_BY_CHARACTER = 1
_UTF8 = 1
_KEEP_RUNNING = 0x8000  # espeakINITIALIZE_DONT_EXIT
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def speak(request: dict[str, Any]) -> tuple[int, list[bytes]]:
    """Return the sample rate [Hz] and each clip's samples; OSError where espeak-ng refuses."""
    library = ctypes.CDLL(request["library"])
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, request["data"].encode(), _KEEP_RUNNING)
    if rate <= 0:
        raise OSError(f"espeak-ng does not start with the data in {request['data']}")
    pieces: list[bytes] = []

    def take(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _CALLBACK(take)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        raise OSError(f"espeak-ng has no voice {request['voice']!r}")
    clips = []
    for clip in request["clips"]:
        for parameter, name in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range"), (_WORDGAP, "gap")):
            library.espeak_SetParameter(parameter, int(clip[name]), 0)
        text = clip["text"].encode() + b"\0"
        pieces.clear()
        failed = library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, _BY_CHARACTER, 0, _UTF8, None, None)
        if failed or library.espeak_Synchronize() != 0 or not pieces:
            raise OSError(f"espeak-ng does not speak {clip['text']!r}")
        clips.append(b"".join(pieces))
    return rate, clips


def main() -> int:
    """Answer the request on standard input; return the exit code."""
    try:
        rate, clips = speak(json.load(sys.stdin))
    except (OSError, ValueError, KeyError) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(struct.pack("<I", rate))
    for clip in clips:
        sys.stdout.buffer.write(struct.pack("<I", len(clip)) + clip)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
