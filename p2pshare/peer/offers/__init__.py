"""Offers of a running peer: what is told to whom, what this peer offers, and its inbox."""
