"""The values that pass between packages: geometry, annotation, levels, volumes. Free of torch."""
