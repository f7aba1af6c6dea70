"""Metrics of masks, boxes, attention and image labels, with intervals by patient; NumPy only, no torch."""
