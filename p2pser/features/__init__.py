"""Recordings to tensors: feature kinds, their cache, normalisation, and who holds which clips."""
