"""Reading and writing the XML of the S3 API, whose answers have a namespace with some stores and none with others."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET
from xml.sax import saxutils

_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped (section 2.2)."""


class NotXmlError(Exception):
    """The answer is no XML, or lacks an element that it must have."""


def parsed(body: bytes) -> ET.Element:
    """Return the root of an answer."""
    try:
        return ET.fromstring(body)  # noqa: S314 - the answer of our own store; expat limits entity expansion
    except ET.ParseError as error:
        raise NotXmlError(f"not XML: {error}") from error


def name(element: ET.Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def children(element: ET.Element, wanted: str) -> Iterator[ET.Element]:
    """Yield the children of that name."""
    return (child for child in element if name(child) == wanted)


def text(element: ET.Element, wanted: str, default: str | None = None) -> str:
    """Return the text of the first child of that name."""
    for child in children(element, wanted):
        return child.text or ""
    if default is None:
        raise NotXmlError(f"no {wanted} in it")
    return default


def written(value: str) -> str:
    """Return a text as XML that is read back as the same text: line ends would be normalised (section 2.11)."""
    return saxutils.escape(value, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


def can_hold(value: str) -> bool:
    """Whether XML can hold the text at all."""
    return _UNSPEAKABLE.search(value) is None
