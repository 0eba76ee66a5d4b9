"""Minutes and dollars before anything runs."""
