"""Doubles for the tests of this project and of others: a network, a reactor and a store of names, in memory."""
