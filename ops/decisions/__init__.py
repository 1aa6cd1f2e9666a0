"""Pure decisions: what may be deployed, what a rollback goes back to, which secrets are due."""
