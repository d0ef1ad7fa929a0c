"""The process of one peer: its run, its checkpoints, and its reports."""
