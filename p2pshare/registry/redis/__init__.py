"""The store of names in Redis: connection, Sentinel, keys, scripts, index, and a server of its own."""
