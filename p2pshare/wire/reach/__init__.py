"""Values by which peers find a way to each other, beside the statements in `p2pshare.wire.statements`."""
