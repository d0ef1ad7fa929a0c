"""The gossip algorithms, one per file."""
