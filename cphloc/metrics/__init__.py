"""Metrics of masks, boxes, attention maps and image labels, with bootstrap intervals by patient; without torch."""
