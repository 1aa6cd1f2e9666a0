"""Images that pods run: their Dockerfiles, and `python3 -m images`, which builds, tests and pushes them. Only Python's
standard library: it runs before anything of this project is installed."""
