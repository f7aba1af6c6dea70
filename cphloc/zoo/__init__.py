"""Published entries: read, resolve, verify, publish, load."""
