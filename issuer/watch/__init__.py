"""Programs that run for long: the schedule is kept, alarms are told, servers are kept running."""
