"""The error that ends a start: something outside the program does not let it run."""


class FatalError(Exception):
    """One line for the admin; the process that meets it logs it as `Fatal error : TEXT` and exits with status 1.

    Raised for what an admin can mend (a port in use, a missing directory, no permission), never for a peer's bytes.
    """
