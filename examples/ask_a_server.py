"""Ask p2pser serve for a recording's emotion: python ask_a_server.py http://127.0.0.1:8000 CLIP"""

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main(address: str, clip: str) -> None:
    """Print the most probable emotions, or what is wrong."""
    request = urllib.request.Request(f"{address}/predict?top_k=3", data=Path(clip).read_bytes(), method="POST",
                                     headers={"Content-Type": "application/octet-stream"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            print(json.load(answer)["probabilities"])
    except urllib.error.HTTPError as error:
        print(json.load(error)["error"])
        sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
