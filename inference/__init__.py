"""What the pixels become: volumes in physical units, pipelines, networks and physics. Importing it never loads torch."""
