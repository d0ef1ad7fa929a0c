"""Agreement of all peers: floods, statistics and the final consensus."""
