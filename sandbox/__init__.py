"""A one-machine ground to stand on: engine toolchain, Kubernetes, registry, sample shop.

Nothing outside this package imports it.
"""
