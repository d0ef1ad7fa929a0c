"""The views of a run as a browser page and on a terminal."""
