"""The requester's side of a session: what comes is checked, put together to blocks, and paid for with credit."""
