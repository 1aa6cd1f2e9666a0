"""Backups proven and used: fetched, verified, restored, compared, and put in the live database's place."""
