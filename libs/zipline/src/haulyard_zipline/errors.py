"""What can go wrong in the archive engine, as types, so that services can tell a bad input from a bad setting."""


class ZiplineError(Exception):
    """Any error of the archive engine; catch it where the kind does not matter."""


class EntryError(ZiplineError, ValueError):
    """An entry cannot be what is said of it: a field has no place in a ZIP, or its segments are not its data.

    The message names the field, or the entry and what is wrong with its segments; the caller must correct it.
    """


class LimitsError(ZiplineError, ValueError):
    """The limits contradict each other, so no layout could keep them. The message says which; correct the settings."""


class ArchiveTooLargeError(ZiplineError):
    """No layout of these entries keeps the limits. The message says which limit; ask for fewer or smaller files."""


class UnknownCrcError(ZiplineError):
    """A header was asked for before the CRC-32 of its data was known.

    Finish the parts that hold the data first; where nothing can be put off (equal parts, ranges), compute it first.
    """

    def __init__(self, name: str) -> None:
        """Keep the name of the entry whose CRC-32 is missing."""
        super().__init__(f"the CRC-32 of {name!r} is not known yet")
        self.name = name
