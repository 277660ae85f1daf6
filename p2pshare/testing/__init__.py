"""Test doubles of this project, for its users as well: a network, a reactor, sessions and a store of names."""
