"""One component of every kind for cphloc, to copy from."""
