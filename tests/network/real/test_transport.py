"""The benchmark of the transport: two processes exchange rows over p2pser's links, and over plain pyzmq."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
CALL = """
import json
import transport

if __name__ == "__main__":
    print(json.dumps({kind: transport.measure(kind, 80_000, 3) for kind in ("p2pser", "pyzmq with CURVE")}))
"""


def test_rows_are_exchanged_over_both(tmp_path: Path) -> None:
    script = tmp_path / "call.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n{CALL}")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=240)
    for figures in json.loads(done.stdout).values():
        assert set(figures) == {"MB/s", "CPU ms per MB", "rows"}
        assert figures["MB/s"] > 0
        assert figures["CPU ms per MB"] > 0
