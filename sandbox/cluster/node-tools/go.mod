module runbook/sandbox/cluster/node-tools

go 1.24
