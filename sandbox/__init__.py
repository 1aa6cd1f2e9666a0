"""The sandbox on one machine: engine toolchain, Kubernetes, registry, sample shop.

Nothing outside this package imports it.
"""
