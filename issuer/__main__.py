"""`prefca`: assemble the commands and run."""

from issuer.cli import certificates, credentials, publishing, running, setting_up
from issuer.cli.root import main, prefca

for module in (setting_up, certificates, publishing, credentials, running):
    for command in module.COMMANDS:
        prefca.add_command(command)

if __name__ == "__main__":
    main()
