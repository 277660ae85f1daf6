"""What peers tell each other about offers: the messages, and the receipt for what has arrived."""
