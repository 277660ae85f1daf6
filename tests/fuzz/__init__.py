"""Fuzzing: `http` for the registry, `datagrams` for everything that a datagram reaches before its sender is known."""
