"""The rollback nobody has to type (HerbisVeritas "Triggers Rollback Automatique"): alerts come in, `ops.rollback` goes.

`python -m ops.controller` runs in the cluster, one replica, beside the stack it looks after.
"""
