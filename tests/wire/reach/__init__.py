"""Codecs of the ways by which peers reach each other."""
