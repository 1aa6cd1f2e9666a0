"""Tasks, which run in pods or from a shell: backups and restore tests.

Knows environment variables and files, nothing of Pulumi, of settings or of the operator's command.
"""
