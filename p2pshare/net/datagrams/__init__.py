"""UDP for sessions: a port that moves trains, and the welcome port, which tells its three protocols apart."""
