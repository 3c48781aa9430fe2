"""Failures, captures set aside, use of devices, orientation of RAWs, what tells a replaced file, and seals of rows."""

import sqlalchemy as sa
from alembic import op

from workbench.lab.dataset.seals import seal_of

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SEALED = {"scenes": ["name"], "raws": ["hash"], "reference_images": ["raw"], "devices": ["identity"], "captures": ["id"]}


def upgrade() -> None:
    for table in ("scenes", "raws", "reference_images", "devices"):
        op.add_column(table, sa.Column("seal", sa.String(), nullable=False, server_default=""))
    op.add_column("raws", sa.Column("orientation", sa.Integer(), nullable=False, server_default="1"))
    for name in ("changed_ns", "inode"):
        op.add_column("source_files", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("source_files", sa.Column("content", sa.String(), nullable=False, server_default=""))
    # SQLite cannot drop a constraint: the table is made anew, without its triggers, which come back changed.
    with op.batch_alter_table("captures", recreate="always") as batch:
        batch.drop_constraint("capture_key", type_="unique")
        batch.add_column(sa.Column("set_aside", sa.String()))
        batch.add_column(sa.Column("set_aside_at", sa.String()))
        batch.add_column(sa.Column("seal", sa.String(), nullable=False, server_default=""))
    op.create_index(
        "capture_key",
        "captures",
        ["raw", "device", "parameters", "repeat"],
        unique=True,
        sqlite_where=sa.text("set_aside IS NULL"),
    )
    op.create_table(
        "failures",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("raw", sa.String(), nullable=False),
        sa.Column("device", sa.String(), sa.ForeignKey("devices.identity"), nullable=False),
        sa.Column("parameters", sa.String(), sa.ForeignKey("parameter_sets.hash"), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("workbench", sa.String(), nullable=False),
        sa.Column("seal", sa.String(), nullable=False, server_default=""),
        sa.UniqueConstraint("raw", "device", "parameters", "purpose", name="failure_key"),
    )
    op.create_table(
        "device_use",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("started", sa.String(), nullable=False),
        sa.Column("finished", sa.String(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("reused", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("workbench", sa.String(), nullable=False),
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
    refuse = "BEGIN SELECT RAISE(ABORT, 'captures are immutable'); END"
    op.execute(f"CREATE TRIGGER captures_refuse_delete BEFORE DELETE ON captures {refuse}")
    op.execute(f"CREATE TRIGGER captures_refuse_update BEFORE UPDATE OF {fixed} ON captures {refuse}")
    op.execute(
        "CREATE TRIGGER captures_set_aside_once BEFORE UPDATE OF set_aside, set_aside_at, seal ON captures "
        f"WHEN OLD.set_aside IS NOT NULL OR NEW.set_aside IS NULL {refuse}"
    )
