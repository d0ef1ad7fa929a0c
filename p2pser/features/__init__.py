"""Recordings to tensors: feature kinds, their cache, normalisation, and the clips of all peers."""
