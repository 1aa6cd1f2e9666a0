"""What runs inside pods, and from a shell just as well: backups and restore tests.

Knows environment variables and files, nothing of Pulumi, of settings or of the operator's command.
"""
