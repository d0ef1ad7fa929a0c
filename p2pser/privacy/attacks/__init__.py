"""Attacks on what a peer receives, one a file."""
