"""Prints what the language host reads from `pip list -v --format json`: names, versions, places."""

import json
from importlib.metadata import distributions

installed = [
    {"name": package.name, "version": package.version, "location": str(package.locate_file(""))}
    for package in distributions()
]
print(json.dumps(installed))
