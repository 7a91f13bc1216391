"""The one base of all errors that the user can mend: what, got, allowed, nearest match. The command exits with 2."""


class InputError(ValueError):
    """Bad input, told before anything is spent; one fault a line."""


class WeightError(InputError):
    """Weights that do not belong to this graph, that did not arrive where they belong, or that would run code."""
