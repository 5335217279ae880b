"""What the pixels become: volumes in physical units, pipelines and physics. Importing it never loads torch."""
