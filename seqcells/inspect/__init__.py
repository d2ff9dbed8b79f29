"""Looking inside a recurrence."""
