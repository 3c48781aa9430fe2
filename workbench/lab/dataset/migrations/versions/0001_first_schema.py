"""First schema: blobs, scenes, raws, references, source files, devices, parameter sets, captures."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("hash", sa.String(), primary_key=True),
        sa.Column("suffix", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
    )
    op.create_table(
        "scenes",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("split", sa.String(), nullable=False),
        sa.CheckConstraint("split IN ('train', 'validation', 'test')", name="split_known"),
    )
    op.create_table(
        "raws",
        sa.Column("hash", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("scene", sa.String(), sa.ForeignKey("scenes.name"), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("iso", sa.Float()),
        sa.Column("exposure_s", sa.Float()),
        sa.Column("as_shot_wb", sa.JSON()),
        sa.Column("blob", sa.String(), sa.ForeignKey("blobs.hash"), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
    )
    op.create_table(
        "reference_images",
        sa.Column("raw", sa.String(), sa.ForeignKey("raws.hash"), primary_key=True),
        sa.Column("blob", sa.String(), sa.ForeignKey("blobs.hash"), nullable=False),
    )
    op.create_table(
        "source_files",
        sa.Column("path", sa.String(), primary_key=True),
        sa.Column("raw", sa.String(), sa.ForeignKey("raws.hash"), primary_key=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("modified_ns", sa.Integer(), nullable=False),
    )
    op.create_table(
        "devices",
        sa.Column("identity", sa.String(), primary_key=True),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("firmware", sa.String(), nullable=False),
        sa.Column("space", sa.JSON(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
    )
    op.create_table(
        "parameter_sets",
        sa.Column("hash", sa.String(), primary_key=True),
        sa.Column("codes", sa.JSON(), nullable=False),
    )
    op.create_table(
        "captures",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("raw", sa.String(), sa.ForeignKey("raws.hash"), nullable=False),
        sa.Column("device", sa.String(), sa.ForeignKey("devices.identity"), nullable=False),
        sa.Column("parameters", sa.String(), sa.ForeignKey("parameter_sets.hash"), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("output", sa.String(), sa.ForeignKey("blobs.hash"), nullable=False),
        sa.Column("read_back", sa.JSON(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("boot_id", sa.String(), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("device_s", sa.Float(), nullable=False),
        sa.Column("total_s", sa.Float(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("created", sa.String(), nullable=False),
        sa.Column("workbench", sa.String(), nullable=False),
        sa.UniqueConstraint("raw", "device", "parameters", "repeat", name="capture_key"),
    )
    op.create_index("captures_by_device", "captures", ["device", "purpose"])
    for action in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER captures_refuse_{action.lower()} BEFORE {action} ON captures "
            "BEGIN SELECT RAISE(ABORT, 'captures are immutable'); END"
        )
