"""First schema: blobs, scenes, raws, references, source files, devices, parameter sets, captures."""

import sqlalchemy as sa
from alembic import op

from workbench.lab.dataset.dialects import TEXT, WHOLE, refusals

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("hash", TEXT, primary_key=True),
        sa.Column("suffix", TEXT, nullable=False),
        sa.Column("size", WHOLE, nullable=False),
    )
    op.create_table(
        "scenes",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("split", TEXT, nullable=False),
        sa.CheckConstraint("split IN ('train', 'validation', 'test')", name="split_known"),
    )
    op.create_table(
        "raws",
        sa.Column("hash", TEXT, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("scene", TEXT, sa.ForeignKey("scenes.name"), nullable=False),
        sa.Column("width", WHOLE, nullable=False),
        sa.Column("height", WHOLE, nullable=False),
        sa.Column("iso", sa.Float()),
        sa.Column("exposure_s", sa.Float()),
        sa.Column("as_shot_wb", sa.JSON()),
        sa.Column("blob", TEXT, sa.ForeignKey("blobs.hash"), nullable=False),
        sa.Column("created", TEXT, nullable=False),
    )
    op.create_table(
        "reference_images",
        sa.Column("raw", TEXT, sa.ForeignKey("raws.hash"), primary_key=True),
        sa.Column("blob", TEXT, sa.ForeignKey("blobs.hash"), nullable=False),
    )
    op.create_table(
        "source_files",
        sa.Column("path", TEXT, primary_key=True),
        sa.Column("raw", TEXT, sa.ForeignKey("raws.hash"), primary_key=True),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("modified_ns", WHOLE, nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("identity", TEXT, primary_key=True),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("firmware", TEXT, nullable=False),
        sa.Column("space", sa.JSON(), nullable=False),
        sa.Column("created", TEXT, nullable=False),
    )
    op.create_table(
        "parameter_sets",
        sa.Column("hash", TEXT, primary_key=True),
        sa.Column("codes", sa.JSON(), nullable=False),
    )
    op.create_table(
        "captures",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("raw", TEXT, sa.ForeignKey("raws.hash"), nullable=False),
        sa.Column("device", TEXT, sa.ForeignKey("devices.identity"), nullable=False),
        sa.Column("parameters", TEXT, sa.ForeignKey("parameter_sets.hash"), nullable=False),
        sa.Column("repeat", WHOLE, nullable=False),
        sa.Column("output", TEXT, sa.ForeignKey("blobs.hash"), nullable=False),
        sa.Column("read_back", sa.JSON(), nullable=False),
        sa.Column("serial", TEXT, nullable=False),
        sa.Column("boot_id", TEXT, nullable=False),
        sa.Column("frame", WHOLE, nullable=False),
        sa.Column("device_s", sa.Float(), nullable=False),
        sa.Column("total_s", sa.Float(), nullable=False),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("created", TEXT, nullable=False),
        sa.Column("workbench", TEXT, nullable=False),
        sa.UniqueConstraint("raw", "device", "parameters", "repeat", name="capture_key"),
    )
    op.create_index("captures_by_device", "captures", ["device", "purpose"])
    rules = [(f"captures_refuse_{action.lower()}", action, "") for action in ("UPDATE", "DELETE")]
    for statement in refusals(op.get_bind().dialect.name, "captures", rules):
        op.execute(statement)
