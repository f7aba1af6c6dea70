"""Comparisons on organs at risk: detectors with each other, and a pipeline with one network."""
