"""Chapter: monitoring. Prometheus, Alertmanager, exporters, and their network policies; or objects for an operator."""
