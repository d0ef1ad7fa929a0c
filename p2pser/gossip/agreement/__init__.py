"""What all peers agree on: floods, statistics and the final consensus."""
