"""Backbones: image to pyramid."""
