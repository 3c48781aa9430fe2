"""Failures, captures set aside, use of devices, orientation of RAWs, what tells a replaced file, and seals of rows."""

import sqlalchemy as sa
from alembic import op

from workbench.lab.dataset.dialects import TEXT, WHOLE, end_refusal, refusals
from workbench.lab.dataset.seals import seal_of

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SEALED = {"scenes": ["name"], "raws": ["hash"], "reference_images": ["raw"], "devices": ["identity"], "captures": ["id"]}


def upgrade() -> None:
    for table in ("scenes", "raws", "reference_images", "devices"):
        op.add_column(table, sa.Column("seal", TEXT, nullable=False, server_default=""))
    op.add_column("raws", sa.Column("orientation", WHOLE, nullable=False, server_default="1"))
    for name in ("changed_ns", "inode"):
        op.add_column("source_files", sa.Column(name, WHOLE, nullable=False, server_default="0"))
    op.add_column("source_files", sa.Column("content", TEXT, nullable=False, server_default=""))
    dialect = op.get_bind().dialect.name
    # The triggers come back changed. SQLite cannot drop a constraint: there the table is made anew.
    for action in ("update", "delete"):
        op.execute(end_refusal(dialect, "captures", f"captures_refuse_{action}"))
    with op.batch_alter_table("captures", recreate="always" if dialect == "sqlite" else "never") as batch:
        batch.drop_constraint("capture_key", type_="unique")
        batch.add_column(sa.Column("set_aside", TEXT))
        batch.add_column(sa.Column("set_aside_at", TEXT))
        batch.add_column(sa.Column("seal", TEXT, nullable=False, server_default=""))
    op.create_index(
        "capture_key",
        "captures",
        ["raw", "device", "parameters", "repeat"],
        unique=True,
        sqlite_where=sa.text("set_aside IS NULL"),
        postgresql_where=sa.text("set_aside IS NULL"),
    )
    op.create_table(
        "failures",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("raw", TEXT, nullable=False),
        sa.Column("device", TEXT, sa.ForeignKey("devices.identity"), nullable=False),
        sa.Column("parameters", TEXT, sa.ForeignKey("parameter_sets.hash"), nullable=False),
        sa.Column("code", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("boot_id", TEXT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.Column("workbench", TEXT, nullable=False),
        sa.Column("seal", TEXT, nullable=False, server_default=""),
        sa.UniqueConstraint("raw", "device", "parameters", "purpose", name="failure_key"),
    )
    op.create_table(
        "device_use",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("device", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("started", TEXT, nullable=False),
        sa.Column("finished", TEXT, nullable=False),
        sa.Column("asked", WHOLE, nullable=False),
        sa.Column("reused", WHOLE, nullable=False),
        sa.Column("failed", WHOLE, nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("workbench", TEXT, nullable=False),
    )
    _seal_what_is_there()
    _captures_stay_as_they_are()


def _seal_what_is_there() -> None:
    connection = op.get_bind()
    metadata = sa.MetaData()
    for name, key in SEALED.items():
        table = sa.Table(name, metadata, autoload_with=connection)
        for row in connection.execute(sa.select(table)).mappings().all():
            at = sa.and_(*(table.c[k] == row[k] for k in key))
            connection.execute(sa.update(table).where(at).values(seal=seal_of(table.columns, row)))


def _captures_stay_as_they_are() -> None:
    columns = [c["name"] for c in sa.inspect(op.get_bind()).get_columns("captures")]
    fixed = ", ".join(c for c in columns if c not in ("set_aside", "set_aside_at", "seal"))
    rules = [
        ("captures_refuse_delete", "DELETE", ""),
        ("captures_refuse_update", f"UPDATE OF {fixed}", ""),
        (
            "captures_set_aside_once",
            "UPDATE OF set_aside, set_aside_at, seal",
            "OLD.set_aside IS NOT NULL OR NEW.set_aside IS NULL",
        ),
    ]
    for statement in refusals(op.get_bind().dialect.name, "captures", rules):
        op.execute(statement)
