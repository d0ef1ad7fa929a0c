"""The built-in kinds of features, one a file, found by the file's name."""
