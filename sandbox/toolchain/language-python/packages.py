"""Prints what `pip list -v --format json` tells the language host: names, versions, places."""

import json
from importlib.metadata import distributions

installed = [
    {"name": package.name, "version": package.version, "location": str(package.locate_file(""))}
    for package in distributions()
]
print(json.dumps(installed))
