"""A frozen benchmark: algorithms and topologies of different authors on the same clips, folds, seeds and budgets."""
