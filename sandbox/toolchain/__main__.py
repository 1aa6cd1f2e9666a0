"""`python -m sandbox.toolchain`: build everything; `test`: the Go tests of what is written here, once per content."""

from __future__ import annotations

import sys

from sandbox import toolchain, ui
from sandbox.cluster import helpers
from sandbox.toolchain.gobuild import test
from sandbox.toolchain.parts import PEERS, PLUGINS, plugin_part


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case []:
                print(toolchain.build_cluster_binaries())
                print(toolchain.ensure().bin)
            case ["test"]:
                for part in (*map(plugin_part, PLUGINS), helpers.node_tools()):
                    if any(part.folder.glob("**/*_test.go")):  # the official provider is tested where it is made
                        print((test(part) / "output.txt").read_text(), end="")
            case ["helm"]:
                print(toolchain.build_helm())
            case [name] if name in PEERS:
                print(toolchain.build_peer(name))
            case _:
                print(f"usage: python -m sandbox.toolchain [test | helm | {' | '.join(PEERS)}]", file=sys.stderr)
                return 2
    except ui.SandboxError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
