"""Fuzzing: `http` for the registry, `datagrams` for what datagrams, signals, links and the like reach."""
