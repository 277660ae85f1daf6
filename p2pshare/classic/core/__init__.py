"""State machines of the classic protocol: no socket, no clock, no randomness; time is an argument."""
