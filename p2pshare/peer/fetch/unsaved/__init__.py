"""What is fetched and not saved under a name: previews of pictures, and files for standard output."""
