"""Random changes of a case: geometry, intensity."""
