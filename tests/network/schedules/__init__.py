"""Whole peers in one process, one running at a time, on a fake clock, a fake network and a disk that can fail."""
