"""One file for each word that the user types."""
