"""The status page for customers: from what was published and the clock to HTML, JSON and Atom. Only standard library.

`runbook` and the rollback controller render the copy in a bucket with the same functions.
"""
