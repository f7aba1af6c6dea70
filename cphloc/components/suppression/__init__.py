"""Suppression: reduce the overlapping candidate boxes of an object to one detection."""
