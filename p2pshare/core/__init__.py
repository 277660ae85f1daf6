"""State machines that decide; time is an argument: no Twisted, no clock, no socket."""
