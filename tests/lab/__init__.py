"""A lab of home networks with the kernel's own NAT, in network namespaces: `python -m tests.lab` runs all of it."""
