"""Comparison runs, their tables and pictures."""
