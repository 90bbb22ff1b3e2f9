"""The one exception that means "the input is wrong", as opposed to a bug."""


class BenchError(Exception):
    """Bad input: one sentence naming the file or option and what was expected.

    The command line prints the message without a traceback and exits with 2.
    """
