"""From cases to batches: prepare, cache, pre-process, draw patches, load."""
