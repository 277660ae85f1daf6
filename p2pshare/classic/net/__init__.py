"""The sockets of the classic protocol: UDP for words and pictures, TCP for texts."""
