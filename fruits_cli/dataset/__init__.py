"""Pictures: listed, packed, sent, sampled."""
