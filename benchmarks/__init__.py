"""Side-by-side timings against the tool a user would pick instead. Nothing here is a test: machines are noisy."""
