"""Bytes to frozen values and back: no Twisted, no clock, no socket."""
