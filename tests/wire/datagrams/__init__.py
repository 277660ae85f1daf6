"""The codecs of the datagram transport."""
