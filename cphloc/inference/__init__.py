"""A model applied to real images: windows, runtimes, ensembles, batches, results."""
