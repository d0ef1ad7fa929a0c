"""Recordings with labels: adapters, manifests, folds, partitions, downloads and the synthetic corpus."""
