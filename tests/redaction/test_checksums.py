"""Check digits follow their published rules and examples."""

from __future__ import annotations

import pytest

from steno.redaction import checksums


@pytest.mark.parametrize(
    "digits",
    [
        "4111111111111111",
        "5555555555554444",
        "378282246310005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "4222222222222",
    ],
)
def test_published_test_cards_pass_luhn_and_a_changed_digit_does_not(digits: str) -> None:
    """ISO/IEC 7812-1: any single wrong digit is noticed."""
    assert checksums.is_card(digits)
    assert checksums.has_issuer(digits)
    for position, digit in enumerate(digits):
        changed = digits[:position] + str((int(digit) + 1) % 10) + digits[position + 1 :]
        assert not checksums.is_card(changed)


def test_luhn_example_of_the_standard() -> None:
    """79927398713 is the worked example; its other ten last digits fail."""
    assert [d for d in range(10) if checksums.luhn(f"7992739871{d}")] == [3]


@pytest.mark.parametrize(
    "text",
    [
        "GB29NWBK60161331926819",
        "DE89370400440532013000",
        "FR1420041010050500013M02606",
        "ES9121000418450200051332",
        "NL91ABNA0417164300",
        "BE68539007547034",
        "CH9300762011623852957",
        "NO9386011117947",
    ],
)
def test_registry_examples_are_ibans_and_a_changed_character_is_none(text: str) -> None:
    """ISO 13616: length by country and mod 97 equal to 1."""
    assert checksums.is_iban(text)
    assert checksums.is_iban(text.lower())
    assert not checksums.is_iban(text[:-1])
    assert not checksums.is_iban(text[:-1] + ("1" if text[-1] != "1" else "2"))


@pytest.mark.parametrize(
    ("digits", "valid"),
    [
        ("219099999", True),
        ("000123456", False),
        ("666123456", False),
        ("219009999", False),
        ("219990000", False),
    ],
)
def test_social_security_numbers_never_given_out_are_known(digits: str, valid: bool) -> None:
    assert checksums.is_ssn(digits) is valid


def test_phone_numbers_are_judged_by_region_and_plus_overrides_it() -> None:
    assert checksums.is_phone("2025550123", ("US",))
    assert not checksums.is_phone("2025550123", ("ES",))
    assert checksums.is_phone("+442079460958", ("US",))
    assert not checksums.is_phone("1234567890", ("US",))
