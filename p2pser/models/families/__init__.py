"""The built-in families of models, one a file. A family registers itself; its file has its name."""
