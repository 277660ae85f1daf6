"""Files that arrive: partial files, journals, publishing, and which files are present already."""
