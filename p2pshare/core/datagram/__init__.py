"""The reliable datagram transport: packet protection, loss recovery, congestion control, paths and connections."""
