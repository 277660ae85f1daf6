"""Files that are shared: trees, listings, open files, cached digests."""
