"""What `runbook debug` and `runbook metrics` run in the application's network; every task only reads."""
