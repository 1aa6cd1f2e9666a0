"""What each command does: checks first, then the change, then the report."""
