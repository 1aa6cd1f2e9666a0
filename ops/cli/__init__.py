"""The command `runbook`: one module per command group."""
