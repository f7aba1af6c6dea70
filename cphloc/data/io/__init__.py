"""Read and write image and annotation files with their geometry."""
