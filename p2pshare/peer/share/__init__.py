"""Sessions that others open: who is admitted, and what is served."""
