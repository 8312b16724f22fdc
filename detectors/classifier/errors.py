"""What can be wrong with a model."""


class ModelError(ValueError):
    """A model that cannot be served: names the file and what is wrong with it."""
