"""What a user can get wrong: the command line prints these messages alone and exits with code 2."""


class InputError(ValueError):
    """Bad input from a user: the message says what came, what was expected and what to do."""
