"""Child processes of a user's script."""

from __future__ import annotations

import multiprocessing
import sys


def refuse_unguarded_script() -> None:
    """End this process if it is a child that imports the script which starts processes.

    A child process of multiprocessing imports the main script, which would start processes again without a guard.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        script = getattr(sys.modules.get("__mp_main__"), "__file__", None) or sys.argv[0]
        sys.stderr.write(f"p2pser: {script} starts processes when it is imported, and each process imports it: put "
                         'the call that starts them under `if __name__ == "__main__":`\n')
        sys.exit(2)
