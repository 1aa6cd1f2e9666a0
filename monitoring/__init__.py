"""Prometheus rules, dashboards, Prometheus and Alertmanager configuration, and the page that documents the alerts."""
