"""De-identification of exported instances for research (PS3.15 Annex E); never on the way from scanner to PACS."""
