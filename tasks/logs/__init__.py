"""Counting security events in the logs of pods."""
