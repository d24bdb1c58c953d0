"""A bounded list of what is wrong."""

from workers.train.datasets.facts import Issue

MAX_ISSUES = 1000
_MAX_CHARACTERS = 160
#: A thousand issues have to fit into one message of the bus, beside the classes.
_MAX_BYTES = 128 << 10


class IssueList:
    """Keeps the first issues and counts all; knows how many rows are bad."""

    def __init__(self) -> None:
        self.kept: list[Issue] = []
        self.num_issues = 0
        self.num_bad_rows = 0
        self._room_bytes = _MAX_BYTES

    def add(self, issue: Issue) -> None:
        """One more; its message is cut where it is too long."""
        self.num_issues += 1
        self.num_bad_rows += issue.row is not None
        message = cut(issue.message)
        self._room_bytes -= len(message.encode(errors="replace"))
        if len(self.kept) < MAX_ISSUES and self._room_bytes >= 0:
            self.kept.append(Issue(issue.row, message))

    def put_first(self, message: str) -> None:
        """The reason why nothing can be used stands before the rows'."""
        self.num_issues += 1
        self.kept = [Issue(None, cut(message)), *self.kept[: MAX_ISSUES - 1]]


def cut(message: str) -> str:
    """At most 160 characters, in valid Unicode."""
    valid = message.encode(errors="replace").decode()
    return valid if len(valid) <= _MAX_CHARACTERS else f"{valid[: _MAX_CHARACTERS - 1]}…"
