"""The foundation of all other packages: errors, keyed randomness, files, progress."""
