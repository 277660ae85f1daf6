"""Sessions: their channels and carriers, the driver of one end, and how one is opened."""
