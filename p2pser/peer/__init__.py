"""The process of one peer: its run, its checkpoints, and what it tells."""
