"""The words of persons are found wherever they stand, and those of nobody are not."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomnode.deidentify.identity import identity_of


def person(**more: object) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = "Müller^Anna", "PID-4711"
    for keyword, value in more.items():
        setattr(dataset, keyword, value)
    return dataset


def named(dataset: Dataset, text: str) -> bool:
    return identity_of(dataset, keep_institution=False).named_in(text)


def test_names_and_identifiers_are_found_in_other_text() -> None:
    for text in ("Thorax MÜLLER", "Anna's knee", "see pid-4711", "MUELLER or MÜLLER2", "AnnaMüller", "müller_anna"):
        assert named(person(), text), text


def test_parts_of_other_words_are_nobody() -> None:
    for text in ("Annals", "Joanna", "PID-47112", "Mülleria", "Thorax"):
        assert not named(person(), text), text


def test_physicians_and_names_in_items_count_too() -> None:
    item = Dataset()
    item.PersonName = "Zwingli^Huldrych"
    dataset = person(ReferringPhysicianName="Gessner^Conrad", ContentSequence=[item])
    assert named(dataset, "asked by gessner")
    assert named(dataset, "read by Zwingli")


def test_placeholders_and_short_words_are_nobody() -> None:
    dataset = person(PatientName="Anonymous^Patient^^Dr", PatientID="123", PatientBirthDate="19000101")
    for text in ("PATIENT SUPINE", "anonymous", "123", "19000101", "dr"):
        assert not named(dataset, text), text


def test_short_names_of_scripts_without_spaces_are_found_in_sentences() -> None:
    assert named(person(PatientName="Yamada^Tarou=山田^太郎"), "患者は山田です")


def test_an_institution_is_a_word_unless_it_may_stay() -> None:
    dataset = person(InstitutionName="Spital 4711")
    assert identity_of(dataset, keep_institution=False).named_in("made at Spital 4711")
    assert not identity_of(dataset, keep_institution=True).named_in("made at Spital 4711")


def test_an_identifier_is_found_however_its_digits_are_grouped() -> None:
    dataset = person(PatientID="123-45-678", PatientBirthDate="19840117")
    for text in ("Thorax 12345678", "12 345 678", "born 1984-01-17"):
        assert named(dataset, text), text
    assert not named(dataset, "1234567")


def test_what_identifies_is_taken_out_of_a_text_and_other_text_stays_as_it_is() -> None:
    identity = identity_of(person(PatientID="123-45-678"), keep_institution=False)
    assert identity.taken_out_of("CT 123-45-678 Thorax").split() == ["ct", "thorax"]
    assert identity.taken_out_of("CT Thorax") == "CT Thorax"


def test_encoded_words_and_uids_are_found_in_bytes() -> None:
    identity = identity_of(person(), keep_institution=False).with_uids(["1.2.840.99"])
    assert identity.named_in_bytes("...Müller...".encode())
    assert identity.named_in_bytes("...Müller...".encode("latin-1"))
    assert identity.named_in_bytes(b"\x001.2.840.99\x00")
    assert not identity.named_in_bytes(b"\x001.2.840.991\x00 Muster")
