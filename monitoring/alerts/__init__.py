"""Alert rules of every domain, their tests, routes and documentation: all made from the settings."""
