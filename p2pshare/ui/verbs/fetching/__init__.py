"""Ways in which `get` fetches that need more than a job: waiting for peers."""
