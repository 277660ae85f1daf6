"""The routes of the registry, and the decisions behind them: claims, limits, listing, events, metrics."""
