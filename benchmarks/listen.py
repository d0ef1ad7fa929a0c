"""The delay of ``p2pser listen``, from a window's end to its label: a recording piped in real time, on one core.

    python benchmarks/listen.py MODEL_DIR RECORDING [--seconds 30] [--window 3] [--hop 1] [--json]

The delay is the time from the arrival of a window's last samples in the process to its label on standard output; the
pipe's blocks of 50 ms add up to 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile


def delays(model: Path, recording: Path, seconds: float, window: float, hop: float) -> list[float]:
    """Return the delay of each label [ms]; the recording is repeated where it is shorter than ``seconds``."""
    samples, rate = soundfile.read(recording, dtype="int16", always_2d=True)
    wanted = round(seconds * rate)
    signal = np.resize(samples[:, 0], wanted)
    command = [sys.executable, "-m", "p2pser.cli.main", "listen", str(model), "--raw", "--rate", str(rate), "--window",
               str(window), "--hop", str(hop), "--verbose"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    core = min(os.sched_getaffinity(0))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          env=environment, preexec_fn=lambda: os.sched_setaffinity(0, {core})) as listener:
        assert listener.stdin is not None
        assert listener.stderr is not None
        while b"listening" not in listener.stderr.readline():
            pass
        block = round(0.05 * rate)
        began = time.monotonic()
        for k in range(0, wanted, block):
            time.sleep(max(0.0, began + (k + block) / rate - time.monotonic()))
            listener.stdin.write(signal[k : k + block].astype("<i2").tobytes())
            listener.stdin.flush()
        listener.stdin.close()
        output = listener.stderr.read().decode()
        if listener.wait():
            raise SystemExit(output)
    return [float(delay) for delay in re.findall(r"answered after (\d+) ms", output)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--window", type=float, default=3.0)
    parser.add_argument("--hop", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measured = delays(options.model, options.recording, options.seconds, options.window, options.hop)
    if options.json:
        print(json.dumps({"labels": len(measured), "delays_ms": measured}))
    else:
        print(f"{len(measured)} labels in {options.seconds:g} s on one core: delay {np.median(measured):.0f} ms "
              f"(median), {max(measured):.0f} ms at most")


if __name__ == "__main__":
    main()
