"""What a user can get wrong: the command line prints these messages alone and exits with code 2."""


class InputError(ValueError):
    """Bad input from a user: the message says what came, what was expected and what to do."""


def check_counts(**counts: int | None) -> None:
    """InputError naming the first count that is below one; None stands for a default."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name} is {count}; expected at least 1")
