"""Offers, without clock and sockets: states of both sides, when what is told, what is kept, and the budget of a job."""
