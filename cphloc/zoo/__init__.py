"""Published entries: list, find, check, lock and load them."""
