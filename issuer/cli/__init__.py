"""The command `prefca`, for people and scripts.

Reading order: `root` (the group, its options, errors to exit status), `output` (tables and JSON), then the commands:
`setting_up`, `certificates`, `publishing`, `parties`, `credentials`, `running`.
"""
