"""Why an update failed: read from the cluster, because providers differ in what they report."""
