"""Pages measured by Lighthouse with Chromium: scores, budgets, and what costs most."""
