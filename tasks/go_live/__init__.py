"""The go-live checklist (runbook-de-production §5): what only a pod in the application's network can try."""
