"""The operator's command `runbook`, over Pulumi's Automation API.

`cli` parses and prints, `commands` act, `decisions` are pure functions, `stack` reads the file, history and state of a
stack, `adapters` call the engine, the cluster and registries. The program never imports this package.
"""
