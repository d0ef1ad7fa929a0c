"""The life of a run, over any mixer."""
