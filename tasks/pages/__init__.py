"""Pages of the release that serves, measured again and again: results, their history, their metrics."""
