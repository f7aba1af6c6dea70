"""Apply a model to images: sliding windows, backends, ensembles, batches of cases, results."""
