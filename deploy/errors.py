"""How a command of ours ends when it can't do its work."""


class CommandFailed(Exception):
    """The command failed; the message is one line that says what to do. Exit code 1."""


class WrongUse(CommandFailed):
    """What was asked for can't be: an option, a setting, a folder, a port. Exit code 2."""


class Noteworthy(Exception):
    """Nothing is wrong, and somebody should look all the same."""
