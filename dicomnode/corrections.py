"""Whether a PET header names a method by which it was corrected: one answer for what enters and for what leaves."""

from __future__ import annotations


def names_a_method(said: str) -> bool:
    """Whether an AttenuationCorrectionMethod names one; scanners write "NONE" or "none, no AC" where there is none."""
    said = said.strip().lower()
    return bool(said) and not said.startswith("none")
