"""What a neighbour learns: attacks on what it receives, and the audit that runs them."""
