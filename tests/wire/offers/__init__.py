"""Messages about offers, and receipts."""
