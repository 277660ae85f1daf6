"""The people that the user knows or could know: who is there, how they are reached, and which keys are trusted."""
