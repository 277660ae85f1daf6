"""Congestion control: how many bytes may be in flight, and how fast they may leave."""
