"""What several components share: names, pods, jobs, RBAC, network policies."""
