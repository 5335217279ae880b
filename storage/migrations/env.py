"""Alembic's way in: runs the migrations on the connection, and in the transaction, that Database.migrate holds."""

from alembic import context

from storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
