"""Files that are offered: trees, listings, open files, cached digests."""
