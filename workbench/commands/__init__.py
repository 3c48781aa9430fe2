"""The commands of the workbench, one file each. Only the command that runs imports anything heavy."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add every command to the app, in the order in which they are used."""
    from workbench.commands import dataset, device, keys, sim
    from workbench.commands.ablate import ablate
    from workbench.commands.choose import choose
    from workbench.commands.collect import collect
    from workbench.commands.demo import demo
    from workbench.commands.export import export
    from workbench.commands.export_tuning import export_tuning
    from workbench.commands.fit_proxy import fit_proxy
    from workbench.commands.plan import plan
    from workbench.commands.predict import predict
    from workbench.commands.refine import refine
    from workbench.commands.report import report
    from workbench.commands.rerun import rerun
    from workbench.commands.run import run
    from workbench.commands.train import train
    from workbench.commands.tune import tune
    from workbench.commands.validate import validate

    app.command()(demo)
    app.add_typer(sim.app, name="sim")
    app.add_typer(device.app, name="device")
    app.add_typer(keys.app, name="keys")
    app.command()(collect)
    app.add_typer(dataset.app, name="dataset")
    app.command("fit-proxy")(fit_proxy)
    app.command()(train)
    app.command()(refine)
    app.command()(tune)
    app.command()(choose)
    app.command()(validate)
    app.command()(ablate)
    app.command()(predict)
    app.command()(run)
    app.command()(export)
    app.command("export-tuning")(export_tuning)
    app.command()(plan)
    app.command()(report)
    app.command()(rerun)
