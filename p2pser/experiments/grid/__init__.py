"""Comparisons over a grid: topologies, algorithms, numbers of peers, partitions, corpora, seeds, faults."""
