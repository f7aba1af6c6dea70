"""Look at a data set before a model is trained on it: facts of every case, and what is suspicious about it."""
