"""From a name to a key and to addresses."""
