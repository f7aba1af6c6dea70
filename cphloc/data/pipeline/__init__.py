"""From cases to batches: preprocess, cache, cut patches, load."""
