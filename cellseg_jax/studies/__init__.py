"""Questions that take several training runs to answer."""
