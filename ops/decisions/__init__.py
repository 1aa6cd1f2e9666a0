"""Pure decisions: what may be deployed, which revision a rollback restores, which secrets are due."""
