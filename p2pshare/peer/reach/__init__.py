"""How peers reach each other: dialling, calls, and the addresses of this machine."""
