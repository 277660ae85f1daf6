"""The commands of `p2pshare`: `table` has all of them, `command` says what one is."""
