"""The relay: it joins two peers that cannot reach each other, and forwards what it cannot read."""
