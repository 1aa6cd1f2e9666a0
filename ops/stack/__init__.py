"""The stack: its file, context, history, locks and records."""
