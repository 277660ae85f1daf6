"""How a machine is connected: its addresses and their changes, what NATs make of them, and port mappings."""
