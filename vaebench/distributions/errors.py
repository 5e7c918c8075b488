"""What a distribution or a model says where it does not have what a metric asks for."""


class UnavailableError(Exception):
    """Something that a metric needs cannot be had: raised in `measure`, its rows are `skipped` with this reason."""
