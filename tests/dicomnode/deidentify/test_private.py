"""Only private elements of the standard's list stay, and only with the creator that the list names."""

from pydicom.dataset import Dataset

from dicomnode.deidentify.private import SAFE, safe_elements


def philips() -> Dataset:
    dataset = Dataset()
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.5")
    block.add_new(0x09, "DS", "2.5")
    block.add_new(0x0A, "LO", "Zwingli")
    return dataset


def test_listed_elements_and_their_creator_are_safe() -> None:
    assert {(tag.group, tag.element) for tag in safe_elements(philips())} == {
        (0x7053, 0x0010), (0x7053, 0x1000), (0x7053, 0x1009),
    }  # fmt: skip


def test_the_same_elements_of_another_creator_are_not() -> None:
    dataset = philips()
    dataset[0x7053, 0x0010].value = "Somebody else"
    assert safe_elements(dataset) == frozenset()


def test_a_creator_with_nothing_safe_does_not_stay() -> None:
    dataset = Dataset()
    dataset.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x77, "LO", "Zwingli")
    assert safe_elements(dataset) == frozenset()


def test_every_listed_group_is_private() -> None:
    assert all(group % 2 for groups in SAFE.values() for group in groups)
