"""The XMP packet that says how a picture was made, in IPTC's words (Photo Metadata 2025.1): writing and reading it."""

import html
import re
from dataclasses import dataclass
from enum import StrEnum
from xml.sax.saxutils import escape, quoteattr

NAMESPACE = "https://tintype.dev/ns/1.0/"
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MAX_CHARS = 500
OWN_NAME = "tintype:Settings"
OWN = re.compile(r"<tintype:Settings>([^<]*)</tintype:Settings>|\btintype:Settings=(?:\"([^\"]*)\"|'([^']*)')")


class SourceType(StrEnum):
    """How a picture came to be: IPTC's digital source types that Tintype's pictures can have."""

    CREATED = VOCABULARY + "trainedAlgorithmicMedia"
    EDITED = VOCABULARY + "compositeWithTrainedAlgorithmicMedia"


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a file says of itself: its source type (of anybody's vocabulary when read), the system and the model."""

    source_type: str = SourceType.CREATED
    system: str | None = None
    model: str | None = None


def packet(label: Label, own: str | None) -> bytes:
    """An XMP packet with this label, and with our JSON `own` unless None."""
    system = quoteattr(_xml(label.system or ""))
    model = f" Iptc4xmpExt:AISystemVersionUsed={quoteattr(_xml(label.model))}" if label.model else ""
    settings = "" if own is None else f"<tintype:Settings>{escape(_xml(own))}</tintype:Settings>"
    text = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' xmlns:tintype="{NAMESPACE}" xmp:CreatorTool={system}'
        f" Iptc4xmpExt:DigitalSourceType={quoteattr(_xml(label.source_type))}"
        f" Iptc4xmpExt:AISystemUsed={system}{model}>"
        f'{settings}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
    return text.encode("utf-8", "replace")


def label_in(text: str) -> Label | None:
    """The label in anybody's packet; None when it names no digital source type."""
    source_type = _property(text, "DigitalSourceType")
    if source_type is None:
        return None
    return Label(
        source_type=source_type,
        system=_property(text, "AISystemUsed"),
        model=_property(text, "AISystemVersionUsed"),
    )


def own_in(text: str) -> str | None:
    """Our JSON in a packet, as we wrote it or as another program wrote it anew."""
    found = OWN.search(text)
    return html.unescape("".join(group or "" for group in found.groups())) if found else None


def _property(text: str, name: str) -> str | None:
    """A simple property, written as an attribute or an element; a parser of XML would follow a stranger's entities."""
    for pattern in (
        rf"\bIptc4xmpExt:{name}\s{{0,8}}=\s{{0,8}}(?:\"([^\"<]{{0,2000}})\"|'([^'<]{{0,2000}})')",
        rf"<Iptc4xmpExt:{name}>([^<]{{0,2000}})()</Iptc4xmpExt:{name}>",
        rf"<Iptc4xmpExt:{name}\s{{1,8}}rdf:resource=(?:\"([^\"<]{{0,2000}})\"|'([^'<]{{0,2000}})')",
    ):
        found = re.search(pattern, text)
        if found:
            return html.unescape(found[1] or found[2] or "").strip()[:MAX_CHARS]
    return None


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return "".join(char if char in "\t\n\r" or " " <= char not in "\ufffe\uffff" else "\ufffd" for char in text)
