"""What can be wrong with a bundle or its store."""


class BundleError(Exception):
    """A bundle that cannot be used; the message names the file, the fault and the mend."""
