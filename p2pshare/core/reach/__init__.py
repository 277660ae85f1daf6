"""How two peers find a path: the order in which addresses are dialled, and connectivity checks through NATs."""
