"""From what was seen to a verdict: one pure function for each question of `fruits doctor`."""
