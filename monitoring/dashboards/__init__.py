"""Dashboards (Runbook de Production §6), made from the same thresholds and expressions as the alerts."""
