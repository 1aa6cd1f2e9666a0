#!/bin/sh
# What the engine starts as its Python language host: the host, told to use our interpreter.
here=${0%/*}
export PULUMI_PYTHON_CMD="${PULUMI_PYTHON_CMD:-$here/pulumi-language-python-interpreter}"
exec "$here/pulumi-language-python-host" "$@"
