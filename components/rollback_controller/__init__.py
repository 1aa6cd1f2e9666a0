"""Chapter: automatic rollback. The controller that the alerts call, and its RBAC."""
