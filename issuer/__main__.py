"""`prefca`: assemble the commands and run."""

from issuer.cli import (
    audit,
    certificates,
    credentials,
    delegates,
    issuing,
    journal,
    lists,
    publishing,
    running,
    scheduling,
    setting_up,
    usage,
)
from issuer.cli.root import main, prefca

for module in (
    setting_up,
    issuing,
    certificates,
    scheduling,
    publishing,
    lists,
    delegates,
    credentials,
    journal,
    audit,
    usage,
    running,
):
    for command in module.COMMANDS:
        prefca.add_command(command)

if __name__ == "__main__":
    main()
