"""The rollback controller (HerbisVeritas "Triggers Rollback Automatique"): rolls a release back on an alert.

`python -m ops.controller` runs in the stack's namespace, with one replica.
"""
