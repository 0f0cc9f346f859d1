"""What the sample shows from a file."""


def triple(x):
    """Return 3 x."""
    return 3 * x  # type: ignore[no-any-return]


AFTER = "not shown"
