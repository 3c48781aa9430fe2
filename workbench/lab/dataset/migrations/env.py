"""Alembic's environment: the caller passes its open connection; one transaction holds the whole upgrade."""

from alembic import context

from workbench.lab.dataset.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
