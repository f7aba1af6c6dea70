"""A run becomes a published entry: checks, frozen weights, card and page."""
