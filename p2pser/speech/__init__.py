"""Recordings to tensors: corpora, splits, features, normalisation and who holds what."""
