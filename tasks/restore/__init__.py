"""Restores and restore tests: fetch, verify, restore, compare, replace the live database."""
