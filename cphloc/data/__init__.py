"""From files to batches: images with geometry, data sets, preparation, patches, augmentation."""
