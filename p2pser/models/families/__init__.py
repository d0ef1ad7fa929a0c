"""The built-in families of models, one a file. A family is found by its file's name, and registers itself."""
