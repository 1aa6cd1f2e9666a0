"""Why an update failed: looked for in the cluster, so that it does not depend on what a provider says of it."""
