"""Component resources, one module or folder per chapter of the runbooks. They read no configuration."""
