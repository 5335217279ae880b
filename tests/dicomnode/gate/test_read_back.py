"""A file read beside the one before says what it says read alone, and the gate finds in it what it finds alone."""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from dicomnode.fingerprints import header_piece, header_sha256
from dicomnode.gate.output_gate import InstanceGate
from dicomnode.gate.read_back import Reader, spans_of
from dicomnode.headers import header_values
from dicomnode.verbatim import verbatim_elements
from tests.builders_faults import FAULTS, G3_FAULTS, GoodImage, Spoil, good_image, lacks, meta, sets, spoiled

Change = Callable[[bytes], bytes]
EXPLICIT = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00"
PIXELS = b"\xe0\x7f\x10\x00OW\x00\x00\x00\x02\x00\x00"
CHARACTER_SET = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"


def spoils(spoil: Spoil) -> Change:
    return lambda content: spoiled(content, spoil)


def bytes_for(old: bytes, new: bytes) -> Change:
    def change(content: bytes) -> bytes:
        assert content.count(old) == 1
        return content.replace(old, new)

    return change


def in_two_sequences(dataset: Dataset) -> None:
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def of_undefined_length(dataset: Dataset) -> None:
    dataset["SourceImageSequence"].is_undefined_length = True


def unknown_inside(dataset: Dataset) -> None:
    item = Dataset()
    item.add_new(0x00280106, "UN", b"\xff\xff")
    dataset.RealWorldValueMappingSequence = DicomSequence([item])
    dataset.PixelRepresentation = 0


def texts_of_another_set(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = "Ü^Ä"


def implicit(content: bytes) -> bytes:
    dataset, out = dcmread(BytesIO(content)), BytesIO()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(out, implicit_vr=True, little_endian=True)
    return out.getvalue()


def compressed(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([dataset.PixelData])
    dataset["PixelData"].is_undefined_length = True


BESIDE: dict[str, Change] = {
    "nothing": bytes,
    "a text": spoils(sets(PatientName="Other^Name")),
    "several numbers": spoils(sets(ImagePositionPatient=["1", "2", "3"], Rows=8)),
    "within a sequence": spoils(in_two_sequences),
    "added": spoils(sets(EthnicGroup="added", InstitutionName="", Units="HU")),
    "removed": spoils(lacks("PatientAge", "SourceImageSequence", "WindowCenter")),
    "file meta": spoils(meta(MediaStorageSOPInstanceUID="1.2.3", SourceApplicationEntityTitle="SOMEBODY")),
    "pixels": lambda content: content[:-2] + b"\x01\x00",
    "fewer pixels": spoils(lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[:-32])),
    "another VR": bytes_for(b"\x20\x00\x13\x00IS", b"\x20\x00\x13\x00DS"),
    "a VR that the dictionary has not": bytes_for(b"\x28\x00\x20\x01SS", b"\x28\x00\x20\x01SL"),
    "another character set": spoils(texts_of_another_set),
    "the same bytes in another character set": bytes_for(CHARACTER_SET, CHARACTER_SET.replace(b"100", b"144")),
    "another sign": spoils(unknown_inside),
    "an escape in a text": spoils(sets(SeriesDescription="\x1b$B!! (AI)")),
}
WHOLE: dict[str, Change] = {
    "private": spoils(lambda dataset: dataset.add_new(0x00290010, "LO", "MAKER")),
    "a sequence of undefined length": spoils(of_undefined_length),
    "unknown VR": bytes_for(b"\x20\x00\x13\x00IS", b"\x20\x00\x13\x00ZZ"),
    "no VR": bytes_for(b"\x20\x00\x13\x00IS", b"\x20\x00\x13\x00\0\0"),
    "trailing bytes": lambda content: content + bytes(4),
    "trailing element": lambda content: content + b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0" + bytes(4),
    "truncated pixels": lambda content: content[:-1],
    "truncated header": lambda content: content[:700],
    "truncated head": lambda content: content[:150],
    "no preamble": lambda content: content[132:],
    "nothing at all": lambda content: b"",
    "no pixels": spoils(lacks("PixelData")),
    "no bytes of pixels": spoils(lambda dataset: setattr(dataset, "PixelData", b"")),
    "pixels of a short VR": bytes_for(PIXELS, PIXELS[:4] + b"US\x00\x02"),
    "compressed": spoils(compressed),
    "implicit": implicit,
    "said to be implicit": bytes_for(EXPLICIT, EXPLICIT.replace(b"2.1\0", b"2\0\0\0")),
    "said to be big endian": bytes_for(EXPLICIT, EXPLICIT.replace(b"2.1\0", b"2.2\0")),
    "said to be deflated": bytes_for(EXPLICIT, EXPLICIT.replace(b"\x14", b"\x16").replace(b"2.1\0", b"2.1.99")),
    "said to be compressed": bytes_for(EXPLICIT, EXPLICIT.replace(b"2.1\0", b"2.5\0")),
    "no transfer syntax": bytes_for(EXPLICIT, b""),
    "an element of the command group": bytes_for(b"DICM", b"DICM\0\0\0\1US\2\0\1\0"),
    "out of order": bytes_for(CHARACTER_SET, b"\x10\x00\x40\x00CS\x02\x00O " + CHARACTER_SET),
    "twice": bytes_for(CHARACTER_SET, CHARACTER_SET * 2),
}


def said_by(read: Callable[[], Sequence[Any]]) -> Any:
    """What a file says, as plain values; of one that cannot be read what was raised."""
    try:
        elements, header, sha256, *datasets = read()
        pieces = [(tag, one.VR, header_piece(tag, one)) for tag, one in elements.items()]
        values = [
            [(int(tag), dataset[tag].VR, repr(dataset[tag].value)) for tag in list(dataset.keys())]
            for dataset in datasets
        ]
        return pieces, header, list(header), sha256, values, [one.original_character_set for one in datasets[:1]]
    except Exception as fault:
        return type(fault)


def alone(content: bytes) -> Any:
    """By pydicom and nothing of the reader."""

    def read() -> Sequence[Any]:
        dataset = dcmread(BytesIO(content))
        elements, header = verbatim_elements(dataset), header_values(dataset)
        return elements, header, header_sha256(dcmread(BytesIO(content))), dataset, dataset.file_meta

    return said_by(read)


def beside(reader: Reader, content: bytes) -> Any:
    def read() -> Sequence[Any]:
        one = reader.read(content)
        return one.elements, one.header, one.header_sha256(), one.dataset, one.dataset.file_meta

    return said_by(read)


def found_in(gate: InstanceGate, good: GoodImage, content: bytes) -> Any:
    """The first rule that does not hold with its sentence, what was raised, or what was read."""
    try:
        read = gate.check(content, good.image, values=good.values, outside=good.outside)
    except Exception as fault:
        return type(fault), getattr(fault, "rule", ""), str(fault)
    return read.header, read.header_sha256()


def after(good: GoodImage) -> InstanceGate:
    """A gate that the good file has passed."""
    gate = InstanceGate(good.card)
    gate.check(good.content, good.image, values=good.values, outside=good.outside)
    return gate


@pytest.mark.parametrize("name", [*BESIDE, *WHOLE])
def test_a_file_says_beside_another_what_it_says_alone(name: str) -> None:
    good, reader = good_image("CT"), Reader()
    content = (BESIDE | WHOLE)[name](good.content)
    assert (spans_of(content) is not None) is (name in BESIDE)
    reader.read(good.content)
    for one in (content, good.content, content):
        assert beside(reader, one) == alone(one)


@pytest.mark.parametrize("name", [*BESIDE, *WHOLE])
def test_the_gate_finds_in_a_file_of_a_series_what_it_finds_in_it_alone(name: str) -> None:
    good = good_image("CT")
    content, gate = (BESIDE | WHOLE)[name](good.content), after(good)
    for one in (content, good.content, content):
        assert found_in(gate, good, one) == found_in(InstanceGate(good.card), good, one)


@pytest.mark.parametrize("kind", ["CT", "PT", "MR", "SYN"])
def test_every_single_fault_is_found_after_a_good_file_as_it_is_alone(kind: str) -> None:
    good = good_image(kind)
    gate, tried = after(good), 0
    for rule, of_kind, spoil in (*FAULTS, *G3_FAULTS):
        if of_kind == kind:
            content, tried = spoiled(good.content, spoil), tried + 1
            found = found_in(gate, good, content)
            assert found[1] == rule
            assert found == found_in(InstanceGate(good.card), good, content)
            assert found_in(gate, good, good.content) == found_in(InstanceGate(good.card), good, good.content)
    assert tried


def test_only_what_has_other_bytes_is_read_again() -> None:
    good, reader = good_image("CT"), Reader()
    first = reader.read(good.content)
    second = reader.read(spoiled(good.content, sets(PatientName="Other^Name")))
    again = {tag for tag in second.elements if second.elements[tag] is not first.elements[tag]}
    assert again == {0x00080005, 0x00100010, 0x00280103}


def test_a_file_is_not_changed_by_reading_the_next() -> None:
    good, reader = good_image("CT"), Reader()
    first = reader.read(good.content)
    reader.read(spoiled(good.content, sets(PatientName="Other^Name", Units="HU")))
    assert beside(Reader(), good.content)[4][0] == said_by(lambda: ({}, {}, "", first.dataset))[4][0]


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), kind=st.sampled_from(["CT", "PT", "MR"]))
def test_whatever_bytes_differ_nothing_is_taken_from_the_file_before(data: st.DataObject, kind: str) -> None:
    good, reader = good_image(kind), Reader()
    content = bytearray(good.content)
    for _ in range(data.draw(st.integers(1, 3))):
        at, length = data.draw(st.integers(132, len(content) - 512)), data.draw(st.sampled_from([0, 1, 1, 1, 2, 8]))
        content[at : at + length] = data.draw(st.binary(min_size=0 if length > 1 else 1, max_size=max(length, 1)))
    reader.read(good.content)
    assert beside(reader, bytes(content)) == alone(bytes(content))
    assert found_in(after(good), good, bytes(content)) == found_in(InstanceGate(good.card), good, bytes(content))
