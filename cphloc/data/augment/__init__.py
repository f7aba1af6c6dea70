"""Data augmentation of training patches: spatial and intensity transforms."""
