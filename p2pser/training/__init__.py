"""Local work: what a peer does with its own clips between two exchanges."""
