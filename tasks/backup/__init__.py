"""Backups: made, listed, cleaned up, and what they are made of."""
