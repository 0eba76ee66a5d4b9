"""What a run holds, as a page that a person looks at."""
