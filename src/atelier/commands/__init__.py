"""What the command line does that is no chapter's: painting, and the moments of data."""
