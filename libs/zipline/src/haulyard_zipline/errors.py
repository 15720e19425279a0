"""What can go wrong in the archive engine, as types, so that services can tell a bad input from a bad setting."""


class ZiplineError(Exception):
    """Any error of the archive engine; catch it where the kind does not matter."""


class EntryError(ZiplineError, ValueError):
    """A field of an entry cannot be written in a ZIP. The message names the field; the entry must be corrected."""


class LimitsError(ZiplineError, ValueError):
    """The limits contradict each other, so no layout could keep them. The message says which; correct the settings."""


class ArchiveTooLargeError(ZiplineError):
    """No layout of these entries keeps the limits. The message says which limit; ask for fewer or smaller files."""


class UnknownCrcError(ZiplineError):
    """A header was asked for before the CRC-32 of its data was known. Finish the parts that hold the data first."""

    def __init__(self, name: str) -> None:
        """Keep the name of the entry whose CRC-32 is missing."""
        super().__init__(f"the CRC-32 of {name!r} is not known yet")
        self.name = name
