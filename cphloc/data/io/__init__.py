"""Image and annotation files in and out, each with its geometry."""
