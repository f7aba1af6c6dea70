"""Data: images with geometry, data sets, preparation, patches, augmentation, batches."""
