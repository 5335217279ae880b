"""The header's words that say that metal artifacts were reduced already, by a scanner or by a node.

The names are the makers' own: iMAR (Siemens), O-MAR (Philips), Smart MAR, MAR and GSI MARS (GE), SEMAR (Canon), and
MAR, the token of this node. No attribute of the standard says it, and of no maker's conformance statement could be
confirmed where the name is written: the page, documentation and issue searches of 2026 found Smart MAR as a product's
name and no header. So every place is looked at where a scanner or a technologist writes such a name, word by word.
A name that the words next to it deny ("no MAR", "non-OMAR", "ohne iMAR", "MAR off") is none; "without", "w/o" and
"non" may speak of contrast, so a name after them counts: to refuse a series in vain is seen, to correct one twice is
not. The month of March in a date with a day ("MAR 12, 2024") is none either; "MAR 2024" may be the name with a year of
its software, and counts. iMAR counts also when it is grown together with what follows it (iMARneuro, IMARHIP).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dicomnode.source_image import SourceImage

CODED = ("ImageType", "ConvolutionKernel", "FilterType")
TOLD = ("SeriesDescription", "ProtocolName", "DerivationDescription")
CODES = ("DerivationCodeSequence", "SeriesDescriptionCodeSequence", "ReconstructionAlgorithmSequence")

NAME = re.compile(
    r"""(?<![A-Z])                                  # a whole word: neither GRAMAR nor OMARX
    (?: I[-_ ]?MAR (?: [A-Z]+ )? | O[-_ ]?MAR | SE[-_ ]?MAR | SMART[-_ ]?MAR | GSI[-_ ]?MARS? | MARS | MAR
      | METALL? (?: IC )? [-_. ]* ART (?: [IE]FA[CK]T E? [SN]? )? [-_. ]*
        (?: RED | CORR | KORR | SUPPR | UNTERDR | REMOV | ENTFERN ) [A-Z]*
      | SMART [-_ ]* METAL
      | ART[IE]FACTS? [ ] (?: DUE [ ] TO | FROM | OF ) [ ] METAL [ ] (?: REDUCED | CORRECTED | REMOVED )
      | METAL [-_ ]* ART[IE]FACTS? [ ] (?: WERE | WAS | HAVE [ ] BEEN ) [ ] (?: REDUCED | CORRECTED ) )
    (?![A-Z])""",
    re.VERBOSE,
)
DENIED_BEFORE = re.compile(r"(?<![A-Z])(?:(?:NO|NOT|OHNE|SANS)[-_ ]+|NON[-_]+)$")
DENIED_AFTER = re.compile(r"[-_=: ]*(?:OFF|DISABLED)(?![A-Z])")
YEAR = r"(?:199\d|20[0-4]\d)(?!\d)"
MARCH = re.compile(
    rf"""(?<!\d)\d{{1,2}}([-_/.]?)MARS?\1(?:{YEAR}|\d\d(?!\d))   # 12-MAR-2024, 12MAR24
      | (?<!\d)\d{{1,2}}[ ]MARS?[ ]{YEAR}                         # 12 MAR 2024
      | (?<!\d){YEAR}[-_/. ]?MARS?(?![A-Z])                       # 2024-MAR-12
      | (?<![A-Z])MARS?[-_/., ]+\d{{1,2}}[-_/., ]+{YEAR}          # MAR 12, 2024""",
    re.VERBOSE,
)


def metal_reduction_words(image: SourceImage) -> str:
    """The words and where they stand, e.g. "ImageType MAR"; empty when nothing says that metal artifacts were reduced.

    The patient's name and the study's description are never looked at.
    """
    for where, text in _texts(image):
        if word := _named(text.upper()):
            return f"{where} {word}"
    return ""


def _texts(image: SourceImage) -> Iterator[tuple[str, str]]:
    for keyword in (*CODED, *TOLD):
        for text in image.texts(keyword):
            yield keyword, text
    for keyword in CODES:
        for item in image.items(keyword):
            for part in ("CodeValue", "CodeMeaning"):
                yield keyword, image.of_item(item, part)


def _named(text: str) -> str:
    """The first name that the text, in capitals, holds and does not deny; March is none."""
    dates = [found.span() for found in MARCH.finditer(text)]
    for found in NAME.finditer(text):
        if found.group() in ("MAR", "MARS") and any(begin <= found.start() < end for begin, end in dates):
            continue
        if not DENIED_BEFORE.search(text, 0, found.start()) and not DENIED_AFTER.match(text, found.end()):
            return found.group()
    return ""
