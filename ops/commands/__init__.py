"""The commands: checks first, then the change, then the report."""
