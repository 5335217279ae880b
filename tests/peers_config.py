"""The config by which the node of the journeys runs."""

NODE_TOML = """
[node]
ae_title = "DICOMNODE"
host = "{host}"
port = {port}
data_folder = "../var"
database = "{database}"
quiet_seconds = {quiet_seconds}
retry_first_s = {retry_first_s}
retry_longest_s = {retry_longest_s}
{more_node}
[peers.scanner]
ae_title = "SCANNER"
may = ["store"]
[peers.pacs]
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {pacs_port}
may = ["store", "query", "retrieve"]
{more}
"""

RULES_TOML = """
[[rules]]
name = "hold QA phantoms"
when = 'QualityControlImage == "YES"'
run = ""
[[rules]]
name = "CT with metal"
when = '''Modality == "CT" && SeriesDescription.matches("(?i)metal|implant|hip|dental")'''
run = "ct_metal_artifact_reduction"
send_to = ["pacs"]
[[rules]]
name = "CT denoising"
when = '''Modality == "CT" && !SeriesDescription.matches("(?i)metal|implant|hip|dental")'''
run = "ct_denoising"
send_to = ["pacs"]
[[rules]]
name = "PET denoising"
when = 'Modality == "PT" && "ATTN" in CorrectedImage'
run = "pet_denoising"
send_to = ["pacs"]
[[rules]]
name = "NAC PET to CT"
when = 'Modality == "PT" && !("ATTN" in CorrectedImage)'
run = "pet_to_ct"
send_to = ["pacs"]
"""
