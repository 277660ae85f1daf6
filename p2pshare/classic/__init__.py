"""The original protocol, complete and separate: pictures over UDP, texts over TCP, and names without keys."""
