"""HTTP: a bounded server, event streams, problems, and a client."""
