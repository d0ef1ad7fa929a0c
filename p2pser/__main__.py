"""``python -m p2pser``: the command line."""

from __future__ import annotations

from p2pser.cli.main import main

if __name__ == "__main__":
    main()
