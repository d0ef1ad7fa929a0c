"""What every room may use: errors, keyed randomness, files, progress."""
