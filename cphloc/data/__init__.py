"""From image files to training batches: reading, data sets, preprocessing, patches, augmentation."""
