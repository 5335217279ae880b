"""The output gate: the rules of a derived image, as findings, and the gate that raises at the first that is missed."""
