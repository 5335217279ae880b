"""What we hold and what happened: instance files, the catalogue, jobs and the audit, in SQL and on disk."""
