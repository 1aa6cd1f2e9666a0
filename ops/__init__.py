"""The operator's command `runbook`, over Pulumi's Automation API.

What decides (`decisions`) is apart from what talks (`engine`, `cluster`, `registry`, `stackfile`, `locks`)
and from what prints (`cli`, `show`, `progress`). The program never imports this package.
"""
