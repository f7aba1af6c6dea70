<<<<<<< HEAD
"""From files to batches, geometry kept."""
=======
"""Data: images with geometry, data sets, preparation, patches, augmentation, batches."""
>>>>>>> datapipe
