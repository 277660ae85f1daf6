"""The command line, the dialog and what they show."""
