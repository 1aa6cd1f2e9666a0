"""Rotation of PostgreSQL roles and Redis users: make and test the next one, end the one before it."""
