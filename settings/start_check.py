"""The question that the program asks the command that began an update, when the engine holds the stack's lock."""

START_CHECK = "RUNBOOK_START_CHECK"
"""Variable of the engine: the Unix socket of the command. Plain `pulumi up` has none."""
GO = "go"
"""The answer that lets the program go on; any other is the reason why not."""
