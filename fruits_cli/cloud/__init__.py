"""What we ask of AWS and what it answers, as values."""
