"""Which components a stack has, and in which order they become ready."""
