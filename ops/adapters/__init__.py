"""Clients: Pulumi's Automation API, the cluster, registries, task Jobs."""
