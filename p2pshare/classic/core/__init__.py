"""State machines of the classic protocol; time is an argument."""
