"""Fetch jobs: plan, small and large files, sessions to the sharer, counts."""
