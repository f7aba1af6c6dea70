"""Preprocess cases, cache them on disk, and load training batches of patches."""
