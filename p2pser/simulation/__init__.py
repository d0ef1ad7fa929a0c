"""All peers in one process: the simulated mixer, and runs over it."""
