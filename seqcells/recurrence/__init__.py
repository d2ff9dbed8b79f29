"""How one recurrence is computed."""
