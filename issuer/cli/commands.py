"""Which module has which command. Only that of the called one is loaded: to load all takes as long as most commands."""

import importlib
from typing import Final

import click

_MODULES: Final = {
    "init": "setting_up",
    "found": "setting_up",
    "issue": "issuing",
    "revoke": "certificates",
    "list": "certificates",
    "history": "history",
    "batch": "scheduling",
    "scheduler": "keeping",
    "key": "keys",
    "status": "publishing",
    "export": "publishing",
    "crl": "lists",
    "ocsp-delegate": "delegates",
    "operator": "operators",
    "operation": "operations",
    "activation": "activations",
    "operations-certificate": "operations_certificates",
    "cross": "cross",
    "ceremony": "ceremonies",
    "policy": "policies",
    "relying-party": "credentials",
    "journal": "journal",
    "archive": "archive",
    "report": "reports",
    "audit": "audit",
    "usage": "usage",
    "backup": "instance",
    "restore": "instance",
    "verify-instance": "instance",
    "compromise": "emergency",
    "sample": "running",
    "up": "running",
    "simulate": "simulation.command",  # stands above the three programs: no module of theirs knows it
}


class Commands(click.Group):
    """A group whose commands are in modules beside this one, or at a path of their own, each in its COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """All names, in the order of a first round."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the signature is click's
        """The command with that name."""
        module = _MODULES.get(cmd_name)
        if module is None:
            return None
        path = module if "." in module else f"issuer.cli.{module}"
        commands: tuple[click.Command, ...] = importlib.import_module(path).COMMANDS
        return next(command for command in commands if command.name == cmd_name)
