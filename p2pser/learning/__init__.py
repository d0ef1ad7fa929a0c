"""Local work: what a peer does with its own clips, and how its models are measured and used."""
