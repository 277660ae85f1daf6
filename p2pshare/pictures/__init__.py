"""Pixels: Pillow and numpy, no Twisted."""
